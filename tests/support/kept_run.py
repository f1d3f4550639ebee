"""A finished run on small images, kept as it was written: what reads runs is tried on it without computing one.

``kept_run.tar.xz`` holds 240 training and 40 test images of 6 x 6 pixels and 4 classes, named ``train-0`` and so on,
scored by all methods, with the dense scores. ``python -m tests.support.kept_run`` makes it again, with Ray.
"""

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.writing import write_chunks
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.pipeline.storage.store import open_store
from relatif.schemas.methods import METHODS
from tests.reference.problems import images
from tests.support.images import CLASSES, LOGISTIC, SIDE, subject

KEPT = Path(__file__).with_name("kept_run.tar.xz")
TRAIN, TESTS, RANKS = 240, 40, 10
WRONG = 12
"""Of so many training images, the first ones, the labels are wrong."""

NOISE = 150


def unpacked(folder: Path) -> Path:
    """Unpack the run into a folder, with its data beside it; return its directory."""
    with tarfile.open(KEPT) as kept:
        kept.extractall(folder, filter="data")
    _address(folder / "run/run.json", str(folder / "data"))
    return folder / "run"


def _address(record: Path, data: str) -> None:
    """Let a record say that the data lie at an address."""
    content = unsealed(record.read_bytes())
    content["data"]["address"] = content["configuration"]["data"]["source"] = data
    record.write_bytes(sealed(content))


def write_data(folder: Path) -> Path:
    """Write the images with their names."""
    made = images(0, train=TRAIN, test=TESTS, side=SIDE, classes=CLASSES, wrong=WRONG)
    described = subject((SIDE, SIDE), CLASSES).model_copy(update={"id_column": "name"})
    splits = {"train": (made.train_images, made.train_labels), "test": (made.test_images, made.test_labels)}
    chunks = {
        part: [Chunk(_noisier(pixels), labels, ids=tuple(f"{part}-{row}" for row in range(len(labels))))]
        for part, (pixels, labels) in splits.items()
    }
    write_chunks(open_store(folder), described, chunks, rows_per_group=60)
    return folder


def _noisier(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pixels that a linear model does not always tell apart."""
    noise = NOISE * np.random.default_rng(len(pixels)).standard_normal(pixels.shape)
    return np.clip(np.rint(pixels + noise), 0, 255).astype(np.uint8)


def _make(folder: Path) -> None:
    from tests.support.runs import config, run_named

    settings = (
        f"score.methods={list(METHODS)}".replace("'", '"'),
        "score.write_scores=true",
        f"score.top_k={RANKS}",
        "score.unit_rows=100",
        "data.shard_rows=100",
        "train.weight_decay=1e-2",
        "cluster.local_cpus=2",
    )
    source = write_data(folder / "data")
    run_named(config(source, *settings, task=LOGISTIC), folder / "run")
    shutil.rmtree(folder / "run/work/claims", ignore_errors=True)
    _address(folder / "run/run.json", "data")
    with tarfile.open(KEPT, "w:xz") as kept:
        for name in ("data", "run"):
            kept.add(folder / name, name, filter=_anonymous)
    print(KEPT, os.path.getsize(KEPT))


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        _make(Path(made))
