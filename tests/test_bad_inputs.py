"""Bad input ends with one line that says what was expected, what was found and what to do, before the work."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relatif.jobs.__main__ import main
from relatif.schemas import run_directory
from tests.support import bad_inputs_data, bad_inputs_model, bad_inputs_settings, bad_inputs_tasks
from tests.support.bad_inputs import PASSWORD, Case

CASES = [*bad_inputs_settings.CASES, *bad_inputs_data.CASES, *bad_inputs_tasks.CASES, *bad_inputs_model.CASES]

REFUSED = (1, 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder in which the command runs; modules that it imports from there are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=case.label, marks=pytest.mark.ray if case.late else ()) for case in CASES],
)
def test_bad_input_is_refused_by_one_line(
    case: Case, folder: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if case.late:
        request.getfixturevalue("local_ray")
    arguments = case.arguments(folder)
    capsys.readouterr()

    status = ended(["run", *arguments])

    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if "error: " in line]
    assert status in REFUSED, printed
    assert "Traceback" not in printed.out + printed.err
    assert len(errors) == 1, printed.err
    assert errors[0].startswith("error: expected"), errors
    assert re.search(case.expected, errors[0]), errors[0]
    checkpoints = list(folder.rglob(run_directory.CHECKPOINT))
    assert case.late or not checkpoints, checkpoints
    assert PASSWORD not in printed.out + printed.err


FOUND_BY_CHECK = (
    "task: parameter in an unknown function",
    "task: loss negative (not a likelihood)",
    "data: label 4 in train",
    "data: label 4 in test",
)


@pytest.mark.parametrize("label", FOUND_BY_CHECK)
def test_check_finds_it_too(label: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (case,) = (case for case in CASES if case.label == label)

    assert ended(["check", *case.arguments(folder)]) == 1

    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(f"^error: expected.*{case.expected}|^error: {case.expected}", line), line
    assert not (folder / "out").exists()


def test_check_plans_an_embedding_of_real_size(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["check", *bad_inputs_tasks.LARGE_VOCABULARY.arguments(folder)]) == 0

    assert "30,522 on the diagonal" in " ".join(capsys.readouterr().out.split())


def ended(words: list[str]) -> int:
    """Return the exit status of the command, argparse's own among it."""
    try:
        return main(words)
    except SystemExit as stopped:
        return int(stopped.code or 0)


def test_cases_are_named_once() -> None:
    labels = [case.label for case in CASES]
    assert sorted(labels) == sorted(set(labels))
