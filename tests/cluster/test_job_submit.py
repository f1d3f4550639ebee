"""The main job by ``ray job submit`` to a cluster made by ``ray start``, as the README tells it."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from relatif.schemas import run_directory
from tests.support.checkouts import copy_checkout
from tests.support.own_tasks import TRAINING, user_folder
from tests.support.processes import Sandbox, free_port, job, sandbox
from tests.support.runs import ALWAYS_WRITTEN

SETTINGS = ("data.train_limit=2000", "score.test_limit=100", "train.tolerance=1e-2")
AGENT_SECONDS = 60
LEFT_OUT = (".git", ".venv", "runs")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the repository, with what a checkout has beside the sources."""
    copied = copy_checkout(tmp_path / "relatif")
    for folder in LEFT_OUT:
        (copied / folder).mkdir()
        (copied / folder / "large").write_bytes(b"0")
    return copied


def submitted(machine: Sandbox, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Submit a job and wait for its end; a cluster that has just started takes none for some seconds."""
    deadline = time.monotonic() + AGENT_SECONDS
    while True:
        ended = machine.run("ray", "job", "submit", *words, **environment)
        if "No available agent to submit job" not in ended.stderr or time.monotonic() > deadline:
            return ended


def test_the_main_job_is_submitted_with_its_working_directory(checkout: Path, tmp_path: Path) -> None:
    out, port = tmp_path / "out", free_port()
    words = ["python", *job("run", Path("jobs/configs/mnist_logistic.toml"), out, SETTINGS)[1:]]
    cluster = ("--address", f"http://127.0.0.1:{port}")
    # Only what is uploaded can be imported: not the sources that these tests import.
    own_path = {"PYTHONPATH": ""}
    with sandbox() as machine:
        machine.start_cluster("--num-cpus=2", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}", **own_path)
        refused = submitted(machine, *cluster, "--", "true", **own_path)
        ended = submitted(
            machine, *cluster, "--working-dir", str(checkout), "--", *words, RAY_AUTH_MODE="token", **own_path
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        (unpacked,) = machine.folder.glob("ray/session_[0-9]*/runtime_resources/working_dir_files/*/jobs")
        uploaded = {path.name for path in unpacked.parent.iterdir()}
        package = {path.name for path in (unpacked.parent / "relatif").iterdir()}
        links = [path.name for path in (unpacked.parent / "relatif").iterdir() if path.is_symlink()]
    # Where there is a token, and a Ray that a job started leaves one, ``ray start`` asks for it: clients must say so.
    assert refused.returncode != 0
    assert "RAY_AUTH_MODE is currently 'disabled'" in refused.stderr

    assert not uploaded & set(LEFT_OUT)
    assert {"relatif", "__init__.py", "jobs", "pipeline", "schemas", "data"} <= uploaded
    # Ray uploads what links lead to: the package relatif is then a folder of files.
    assert {"__init__.py", "jobs", "pipeline", "schemas"} <= package
    assert links == []
    assert "Table 1: distinct training examples in the top-k of 100 test inputs" in ended.stdout
    record = json.loads((out / run_directory.RUN_JSON).read_bytes())
    assert record["data"]["address"] == str(unpacked.parent / "data/mnist"), "the job reads what was uploaded"
    assert sorted(path.name for path in (out / run_directory.TABLES).iterdir()) == sorted(ALWAYS_WRITTEN)
    assert pq.read_table(out / run_directory.table("train_examples")).num_rows == 2000


def test_a_task_of_the_users_own_travels_with_its_folder_to_where_relatif_is_installed(tmp_path: Path) -> None:
    folder, elsewhere, port = user_folder(tmp_path / "user"), tmp_path / "elsewhere", free_port()
    elsewhere.mkdir()
    words = job("run", Path("my_mlp.toml"), tmp_path / "out", ["curvature.method=kfac"])[1:]
    cluster = ("--address", f"http://127.0.0.1:{port}", "--working-dir")
    command = ("--", "python", *words)
    with sandbox() as machine:
        # The cluster imports from the repository, which stands for an installation; the user's folder is uploaded.
        machine.start_cluster("--num-cpus=2", "--dashboard-host=127.0.0.1", f"--dashboard-port={port}")
        ended = submitted(machine, *cluster, str(folder), *command, RAY_AUTH_MODE="token")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        unpacked = machine.folder.glob("ray/session_[0-9]*/runtime_resources/working_dir_files/*/my_mlp.py")
        assert len(list(unpacked)) == 1
        shutil.copy(folder / "my_mlp.toml", elsewhere)
        shutil.copytree(folder / "my_images", elsewhere / "my_images")
        lacking = submitted(machine, *cluster, str(elsewhere), *command, RAY_AUTH_MODE="token")
    assert (
        json.loads((tmp_path / "out" / run_directory.RUN_JSON).read_bytes())["configuration"]["task"] == "my_mlp:my_mlp"
    )
    assert pq.read_table(tmp_path / "out" / run_directory.table("train_examples")).num_rows == TRAINING

    assert lacking.returncode != 0
    assert "error: expected to import module 'my_mlp'" in lacking.stdout + lacking.stderr
    assert "give that folder as --working-dir to ray job submit" in lacking.stdout + lacking.stderr
