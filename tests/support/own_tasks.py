"""The folder of a user with tasks of their own: the examples of docs/tasks.md, with small data that they read."""

import io
import random
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from tests.support.processes import Sandbox
from tests.support.runs import ROOT

EXAMPLES = ROOT / "docs/examples"
SIDE, CLASSES = 8, 3
TRAINING, TESTS = 90, 24
SMALL_RAY = ("cluster.local_cpus=2", "cluster.object_store_bytes=100000000")

LANGUAGES = [f"Tongue {letter}" for letter in "ABCDEFGHIJKLMNOPQR"]
NAMES = 9


def user_folder(folder: Path) -> Path:
    """Copy the examples' files into a folder of their own, and write the data that their configurations name."""
    shutil.copytree(EXAMPLES, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write_image_parquet(folder / "my_images")
    write_names(folder / "names")
    return folder


def write_image_parquet(folder: Path) -> None:
    """Write noisy grey templates as encoded images in ``train.parquet`` and ``test.parquet``."""
    generator = np.random.default_rng(0)
    templates = generator.integers(0, 200, (CLASSES, SIDE, SIDE))
    folder.mkdir()
    for split, count in (("train", TRAINING), ("test", TESTS)):
        labels = generator.integers(0, CLASSES, count)
        noise = generator.normal(20, 40, (count, SIDE, SIDE))
        pixels = np.clip(templates[labels] + noise, 0, 255).astype(np.uint8)
        rows = [{"bytes": png(image), "path": f"{row}.png"} for row, image in enumerate(pixels)]
        images = pa.array(rows, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        pq.write_table(pa.table({"image": images, "label": labels}), folder / f"{split}.parquet")


def write_names(folder: Path) -> None:
    """Write NAMES made-up names for each of 18 languages, every language with letters that it likes."""
    chance = random.Random(0)
    folder.mkdir()
    for language in LANGUAGES:
        liked = chance.sample("abcdefghijklmnopqrstuvwxyz", 6)
        names = ["".join(chance.choices(liked, k=chance.randint(2, 12))).title() for _ in range(NAMES)]
        (folder / f"{language}.txt").write_text("\n".join(names) + "\n")


def in_folder(machine: Sandbox, folder: Path, *command: str) -> None:
    """Run a Python command in a folder; it has to end with status 0."""
    ended = machine.run("env", "-C", str(folder), "python", *command)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def png(pixels: NDArray[np.uint8]) -> bytes:
    """Return grey pixels as an encoded image."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()
