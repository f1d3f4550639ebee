"""Jobs as they are called: exit statuses, messages, results, and one stage at a time."""

import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from relatif.jobs import factors, run, score, statistics, train
from relatif.jobs._command import configured, installed
from relatif.jobs._modules import find_modules_here
from relatif.pipeline.runs import running
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from tests.support.images import LOGISTIC, write_images
from tests.support.processes import job, sandbox
from tests.support.runs import ALWAYS_WRITTEN, MNIST, MNIST_CONFIG, ROOT, file_bytes, tables

STAGES = tuple(stage.name for stage in WHOLE_RUN)
JOBS = {"train": train, "factors": factors, "score": score, "statistics": statistics}
SMALL = ("data.shard_rows=50", "score.top_k=5", "train.tolerance=1e-3", "statistics.overlap_k=[1,5]")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=200)


def arguments(data: Path, out: Path, *settings: str) -> list[str]:
    """The options that all jobs share."""
    return job("run", MNIST_CONFIG, out, [f"task={LOGISTIC}", f"data.source={data}", *SMALL, *settings])[3:]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A run by ``jobs.run``."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    assert run.main(arguments(data, out)) == 0
    return out


def test_all_stages_write_all_tables_and_print_results(
    whole: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sorted(tables(whole)) == sorted(ALWAYS_WRITTEN)
    assert run.main(arguments(data, whole)) == 0
    printed = capsys.readouterr().out
    rows = tables(whole)["influence_sets"].to_pylist()
    (cardinality,) = (row["cardinality"] for row in rows if (row["method"], row["k"]) == ("theta_relatif", 1))
    assert f"{cardinality:,}" in next(line for line in printed.splitlines() if "theta-RelatIF" in line)
    tests = tables(whole)["test_examples"].to_pylist()
    accuracy = sum(row["label"] == row["predicted_label"] for row in tests) / len(tests)
    assert f"test accuracy {accuracy:.2%}" in printed
    assert f"tables: {whole}/tables" in printed
    assert "paper" not in printed, "the paper has no such task"


def test_each_job_runs_its_stage_alone(
    whole: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place, stage in enumerate(STAGES):
        assert JOBS[stage].main(arguments(data, tmp_path / "run")) == 0
        log = capsys.readouterr()
        assert f"{stage}: begins" in log.err
        assert [other for other in STAGES if other != stage and f"{other}: begins" in log.err] == []
        assert ("explanations among 200 training examples" in log.out) == (stage == "statistics")
        for later in STAGES[place + 2 :]:
            assert JOBS[later].main(arguments(data, tmp_path / "run")) == 1
            assert f"run relatif {STAGES[place + 1]} with the same options first" in capsys.readouterr().err
    assert file_bytes(tmp_path / "run", "tables/**/*") == file_bytes(whole, "tables/**/*")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["curvature.dampning=1"], "curvature.dampning: Extra inputs are not permitted"),
        (["curvature.damping=-1"], "curvature.damping: Input should be greater than or equal to 0.0000"),
        (["curvature"], "expected --set section.key=value, found 'curvature'"),
        (["task=no_such_task"], "found 'no_such_task'"),
        (["task=no_such_module:task"], "No module named 'no_such_module'"),
        (["data.source=nowhere"], "nowhere, found none of them; correct the address"),
        (["data.source=nosuch://bucket"], "nosuch://bucket"),
        (["data.train_limit=201"], "to the 200 rows of small images/train"),
        (["cluster.workers=3", "cluster.threads_per_worker=1"], "expected room for 3 worker(s)"),
    ],
)
def test_what_cannot_be_done_ends_with_status_1_and_says_why(
    data: Path, tmp_path: Path, settings: list[str], message: str, local_ray: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(arguments(data, tmp_path / "run", *settings)) == 1
    printed = capsys.readouterr()
    assert any(line.startswith("error: ") for line in printed.err.splitlines())
    assert message in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_a_changed_setting_ends_with_status_1(
    whole: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(whole, tmp_path / "run")
    assert run.main(arguments(data, out, "curvature.damping=0.5")) == 1
    assert "curvature.damping: was 0.001, is now 0.5" in capsys.readouterr().err
    assert file_bytes(out) == file_bytes(whole)


@pytest.mark.parametrize("config", ["no_such.toml", "."])
def test_a_missing_configuration_ends_with_status_1(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run.main(["--config", str(tmp_path / config), "--out", str(tmp_path / "run")]) == 1
    assert "error: expected a configuration file at" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run", *STAGES])
@pytest.mark.parametrize("given", [[], ["--config", "a.toml"], ["--out", "a"], ["--config", "a", "--out", "b", "--no"]])
def test_wrong_usage_ends_with_status_2(name: str, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        {"run": run, **JOBS}[name].main(given)
    assert caught.value.code == 2
    assert f"usage: relatif {name}" in capsys.readouterr().err


def test_an_interrupted_run_says_that_it_can_go_on(
    data: Path, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "begin", interrupt)
    assert run.main(arguments(data, tmp_path / "run")) == 130
    assert "run the same command again to continue" in capsys.readouterr().err


def test_configurations_and_data_are_found_where_a_script_was_copied_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = "jobs/configs/mnist_logistic.toml"
    assert Path(installed(config, "jobs/configs")).samefile(ROOT / config)
    assert Path(configured(Namespace(config=str(MNIST_CONFIG), set=[])).data.source).samefile(MNIST)
    for elsewhere in ("mnist_logistic.toml", "jobs/configs/other.toml", "jobs/configs/../configs/mnist_logistic.toml"):
        assert installed(elsewhere, "jobs/configs") == elsewhere
    (tmp_path / config).parent.mkdir(parents=True)
    (tmp_path / config).write_text("")
    assert installed(config, "jobs/configs") == config, "what lies here comes first"


def test_modules_of_the_current_folder_are_found_last_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for current, path, expected in (
        (tmp_path, ["/installed"], ["/installed", str(tmp_path)]),
        (tmp_path, ["", "/installed"], ["", "/installed"]),
        (tmp_path, ["/installed", str(tmp_path)], ["/installed", str(tmp_path)]),
    ):
        monkeypatch.chdir(current)
        monkeypatch.setattr(sys, "path", list(path))
        find_modules_here()
        assert sys.path == expected


def test_from_a_shell_errors_are_on_standard_error_alone(data: Path, tmp_path: Path) -> None:
    with sandbox() as alone:
        failed = alone.python("-m", "jobs.run", *arguments(data, tmp_path / "run", "score.top_k=0"))
        usage = alone.python("-m", "jobs.run", "--help")
    assert (failed.returncode, failed.stdout) == (1, "")
    assert failed.stderr.startswith("error: expected settings that can be used in ")
    assert (usage.returncode, usage.stderr) == (0, "")
    assert "--set section.key=value" in usage.stdout
