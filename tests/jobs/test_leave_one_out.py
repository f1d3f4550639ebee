"""The job: killed in the middle of its retrainings, worker or driver, it continues, and prints Tables 2 and 4."""

import io
import os
import re
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatif.jobs import leave_one_out as job_module
from relatif.schemas import run_directory
from relatif.schemas.reading import load_config
from tests.support.images import write_images
from tests.support.processes import Sandbox, job, sandbox, title, wait_until
from tests.support.runs import MNIST_CONFIG, run_named, tables
from tests.support.slow import SLOW

SETTINGS = (
    f"task={SLOW}",
    "data.shard_rows=50",
    "train.tolerance=1e-4",
    "train.weight_decay=0.01",
    "score.top_k=5",
    "leave_one_out.test_count=5",
    "leave_one_out.curvatures=['identity']",
    "cluster.workers=1",
    "cluster.threads_per_worker=1",
    "cluster.local_cpus=2",
    "cluster.object_store_bytes=150000000",
)


@pytest.fixture
def alone() -> Iterator[Sandbox]:
    with sandbox() as made:
        yield made


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    data = write_images(tmp_path_factory.mktemp("data"), train=200)
    return [f"data.source={data}", *SETTINGS]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, settings: list[str], local_ray: None) -> Path:
    out = tmp_path_factory.mktemp("runs") / "scored"
    run_named(load_config(MNIST_CONFIG, settings), out, "train", "factors", "score")
    return out


def retrainings(out: Path) -> dict[str, int]:
    """Names and times of the manifests of finished retrainings."""
    paths = (out / run_directory.LEAVE_ONE_OUT_WORK).glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in paths if path.stem.isdigit()}


def retrainer(alone: Sandbox) -> int | None:
    """Return the process in which an actor retrains, if there is one."""
    return next((pid for pid in alone.processes() if title(pid).startswith("ray::leave_one_out ")), None)


@pytest.mark.long
@pytest.mark.timeout(240)
def test_killed_worker_and_killed_job_continue_and_the_table_is_that_of_an_undisturbed_one(
    alone: Sandbox, settings: list[str], scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(scored, tmp_path / "killed")
    command = job("leave_one_out", MNIST_CONFIG, out, settings)
    driver = alone.start(*command)
    wait_until(lambda: retrainings(out) or driver.poll() is not None, timeout=300)
    worker, first = retrainer(alone), retrainings(out)
    assert worker is not None
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: retrainings(out).keys() > first.keys() or driver.poll() is not None, timeout=300)
    assert retrainer(alone) != worker
    driver.kill()
    _, log = driver.communicate(timeout=20)
    assert driver.returncode == -signal.SIGKILL, log
    alone.end_processes()
    kept = retrainings(out)
    assert {name: kept[name] for name in first} == first, "the loss of a worker costs the unit that it was in"
    assert not (out / run_directory.stage_manifest("leave_one_out")).exists()

    again = alone.run(*command, timeout=300)
    assert again.returncode == 0, again.stderr
    after = retrainings(out)
    told = re.search(r"leave_one_out: begins, (\d+)/(\d+) retrainings done", again.stderr)
    assert told is not None
    assert 2 <= len(kept) < len(after), "the kill must fall into the middle of the stage"
    assert [int(count) for count in told.groups()] == [len(kept), len(after)]
    assert {name: after[name] for name in kept} == kept, "what was proven was not made again"
    assert again.stdout.startswith("Table 2: the best training example left out, 5 test inputs")
    assert again.stdout.endswith(f"tables: {out}/tables\n")

    undisturbed = shutil.copytree(scored, tmp_path / "undisturbed")
    others = [*settings, "cluster.threads_per_worker=2"]
    assert job_module.main(job("leave_one_out", MNIST_CONFIG, undisturbed, others)[3:]) == 0
    printed = capsys.readouterr().out
    assert printed.replace(str(undisturbed), str(out)) == again.stdout
    found, expected = tables(out)["leave_one_out"], tables(undisturbed)["leave_one_out"]
    assert found.equals(expected)
    assert tables(out)["leave_one_out_predictions"].equals(tables(undisturbed)["leave_one_out_predictions"])
    assert sorted(after) == sorted(retrainings(undisturbed))
    assert "Table 4: " in printed
    figures, corrected = r"+0\.001 +\d+ +0\.\d+ +0\.\d+ .*\n", r"  corrected +\d+ .*\n"
    assert re.search(rf"\nkfac {figures}{corrected}identity +1 +\d+ .*\n({corrected})?\nfigure: ", printed)
    picture = Image.open(io.BytesIO((out / run_directory.LEAVE_ONE_OUT_PLOT).read_bytes())).convert("RGB")
    assert len(np.unique(np.asarray(picture).reshape(-1, 3), axis=0)) > 50, "not blank"
    assert not (out / run_directory.PREPARED).exists(), "half a GiB for MNIST: not kept"


def test_without_scores_it_is_refused(
    settings: list[str], scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(scored, tmp_path / "run")
    (out / run_directory.stage_manifest("score")).unlink()
    assert job_module.main(job("leave_one_out", MNIST_CONFIG, out, settings)[3:]) == 1
    captured = capsys.readouterr()
    assert "error: expected the finished result of stage 'score'" in captured.err
    assert captured.out == ""
