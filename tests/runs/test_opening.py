"""A finished run is opened without Ray, with the settings and the data that it was made with."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.schemas.errors import DataError, MissingStageError
from tests.support.images import write_images
from tests.support.runs import ROOT, config, run_named

OPEN = """
import sys
import relatif
run = relatif.open(sys.argv[1])
print(run.config.train.seed, run.train_rows, run.dataset.name)
assert "ray" not in sys.modules, "opening a run must not load Ray"
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Run:
    folder = tmp_path_factory.mktemp("opening")
    data = write_images(folder / "data", train=200)
    settings = ("train.seed=7", "data.merge_classes=2", "train.tolerance=1e-3")
    return run_named(config(data, *settings), folder / "run", "train")


def test_a_run_is_opened_as_it_was_made(trained: Run) -> None:
    found = open_finished(trained.store.url)
    assert found == trained
    assert found.dataset.class_names == ("class 0+class 1", "class 2+class 3")


def test_no_ray_is_needed(trained: Run) -> None:
    command = [sys.executable, "-c", OPEN, trained.store.url]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "7 200 small images\n"), done.stderr


def readdressed(record: bytes, address: str) -> bytes:
    """The record of a run, with its data elsewhere."""
    content = unsealed(record)
    return sealed({**content, "data": {**content["data"], "address": address}})


def test_what_is_no_run_is_told(tmp_path: Path, trained: Run) -> None:
    with pytest.raises(MissingStageError, match=r"expected a run in .*, found no run.json; name the --out of"):
        open_finished(str(tmp_path))
    moved = shutil.copytree(trained.store.url, tmp_path / "run")
    write_images(tmp_path / "other", train=190)
    record = moved / "run.json"
    record.write_bytes(readdressed(record.read_bytes(), str(tmp_path / "gone")))
    with pytest.raises(DataError, match=r"expected a prepared data set .*gone"):
        open_finished(str(moved))
    record.write_bytes(readdressed(record.read_bytes(), str(tmp_path / "other")))
    with pytest.raises(DataError, match=r"was begun with, fingerprint .*, found fingerprint .*; put that data back"):
        open_finished(str(moved))
