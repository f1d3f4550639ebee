"""The command ``relatif JOB ...``: it hands its words on to the job, and says in one line what it can't do."""

import re
from types import SimpleNamespace

import pytest

from relatif.jobs import __main__ as command
from relatif.jobs.__main__ import JOBS, main
from tests.support.runs import ROOT


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_names_every_job(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: relatif JOB ...\n")
    named = re.findall(r"^  (\w+) +\S.*$", printed.out, re.MULTILINE)
    assert named == list(JOBS)
    assert printed.err == ""


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], "found none; "),
        (["runn"], "found 'runn'; "),
        (["--config", "a.toml"], "found '--config'; "),
        (["../run"], "found '../run'; "),
        (["_command"], "found '_command'; "),
    ],
)
def test_what_is_no_job_is_told_in_one_line(words: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("error: expected a job (run, train, ")
    assert found in line
    assert line.endswith("see relatif --help")
    assert printed.out == ""


def test_jobs_are_what_the_folder_holds() -> None:
    files = {path.stem for path in (ROOT / "jobs").glob("*.py")}
    assert set(JOBS) == {name for name in files if not name.startswith("_")}


@pytest.mark.parametrize("name", JOBS)
def test_a_job_calls_itself_as_it_is_called(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([name, "--help"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: relatif {name} ")


def test_a_jobs_words_and_its_exit_status_are_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[list[str]] = []

    def job(words: list[str]) -> int:
        given.append(words)
        return 7

    def imported(module: str) -> object:
        assert module == "relatif.jobs.score"
        return SimpleNamespace(main=job)

    monkeypatch.setattr(command, "import_module", imported)
    assert main(["score", "--config", "a.toml"]) == 7
    monkeypatch.setattr("sys.argv", ["relatif", "score", "--out", "b"])
    assert main() == 7
    assert given == [["--config", "a.toml"], ["--out", "b"]]
