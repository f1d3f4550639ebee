"""``relatif check`` prints the plan, writes nothing and starts no Ray."""

from pathlib import Path

import pytest

from relatif.jobs import check
from relatif.jobs.__main__ import main
from relatif.pipeline.runs.verifying import Verified
from tests.support.images import PERCEPTRON, write_images
from tests.support.own_tasks import in_folder, user_folder
from tests.support.processes import sandbox
from tests.support.runs import MNIST_CONFIG


def test_the_plan_of_a_run_is_printed_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_images(tmp_path / "data", train=200)
    words = ["--config", str(MNIST_CONFIG), "--out", str(tmp_path / "out")]
    sets = [word for setting in (f"task={PERCEPTRON}", f"data.source={data}") for word in ("--set", setting)]
    assert main(["check", *words, *sets]) == 0
    printed = capsys.readouterr()
    names = [line.split()[0] for line in printed.out.splitlines() if not line.startswith(" ")]
    described = ["task", "data", "curvature", "fisher", "methods", "explained", "audit", "layers", "not"]
    assert names == [*described, "memory", "to", "time"]
    assert printed.err == ""
    assert not (tmp_path / "out").exists()


def test_what_a_run_refuses_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_images(tmp_path / "data", train=200)
    words = ["--config", str(MNIST_CONFIG), "--out", str(tmp_path / "out"), "--set", f"data.source={data}"]
    assert main(["check", *words, "--set", "curvature.layers=['nope']", "--set", f"task={PERCEPTRON}"]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: expected the pattern 'nope' of curvature.layers to match")
    assert printed.out == ""


def test_no_ray_is_started(tmp_path: Path) -> None:
    """As a user would: in a folder with a task of one's own and published data."""
    folder = user_folder(tmp_path / "user")
    with sandbox() as machine:
        in_folder(machine, folder, "-m", "relatif.jobs", "check", "--config", "my_mlp.toml", "--out", "runs/my_mlp")
        assert list(machine.folder.iterdir()) == [], "Ray's files would lie here"
        assert list(machine.processes()) == []
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    "words",
    [[], ["--config", "a.toml"], ["--out", "runs/a"], ["--run", "runs/a", "--config", "a.toml", "--out", "runs/a"]],
)
def test_either_a_plan_or_a_finished_run_is_asked_for(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["check", *words])
    assert ended.value.code == 2
    assert "expected either --config and --out, or --run alone" in capsys.readouterr().err


@pytest.mark.parametrize(("faults", "status"), [((), 0), (("a is missing: fetch it", "b has other contents"), 1)])
def test_what_verifying_finds_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], faults: tuple[str, ...], status: int
) -> None:
    monkeypatch.setattr(check, "verify_run", lambda out: Verified(12, 3 * 2**20, faults))
    assert main(["check", "--run", "runs/a"]) == status
    printed = capsys.readouterr()
    assert printed.out.splitlines()[: len(faults)] == list(faults)
    assert ("12 files of 3.0 MiB are what their proofs say" in printed.out) is (not faults)
    assert printed.err.startswith("error: expected a whole run in " if faults else "")
    assert len(printed.err.splitlines()) == len(faults[:1])
