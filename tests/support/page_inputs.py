"""Prepared data of every kind of example, small, for pages of made-up runs."""

from pathlib import Path

import numpy as np

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject, TargetDescription
from relatif.pipeline.datasets.writing import write_chunks, write_dataset
from relatif.pipeline.storage.store import open_store

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<!-- & \" ' ` ${x}",
    "emoji 👩‍👩‍👧 and \u202eright to left\u202c",
    "a\u0000b\u2028c\u2029d",
    "long " * 400,
    "",
)
"""Texts that a page must hold as what they are."""

SHAPES = {
    "grey": (6, 6),
    "colour": (3, 8, 8),
    "large": (1, 80, 120),
    "row": (4,),
    "wide": (40,),
    "volume": (2, 3, 4),
}
KINDS = ("text", "letters", *SHAPES)

NAMES = ("cat", "</script>", "dog")
ROWS = {"train": 60, "test": 24}
LETTERS = "abcdefgh"


def write_kind(folder: Path, kind: str, classes: int = 3) -> Path:
    """Write examples whose inputs are of one of KINDS."""
    chance = np.random.default_rng(1)
    described, arrays, texts = {}, {}, {}
    for split, rows in ROWS.items():
        described, arrays[split] = _inputs(kind, rows, chance)
        texts[split] = tuple(HOSTILE[row % len(HOSTILE)] + (f" {row}" if row % 2 else "") for row in range(rows))
    with_text = "text_column" in described
    subject = Subject(
        name=kind,
        meaning="made up",
        input=InputDescription(**described),
        class_names=(*NAMES, *map(str, range(3, classes)))[:classes],
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    splits = {
        split: [Chunk(values, chance.integers(0, classes, len(values)), texts[split] if with_text else None)]
        for split, values in arrays.items()
    }
    write_chunks(open_store(folder), subject, splits, rows_per_group=20)
    return folder


def _inputs(kind: str, rows: int, chance: np.random.Generator) -> tuple[dict[str, object], np.ndarray]:
    axes = ("channel", "row", "column")
    if kind in ("text", "letters"):
        codes = chance.integers(0, len(LETTERS) + 1, (rows, 5)).astype(np.uint8)
        told = {"text_column": "text"} if kind == "text" else {"vocabulary": LETTERS}
        return {"column": "x", "dtype": "uint8", "shape": (5,), **told}, codes
    shape = SHAPES[kind]
    if kind in ("grey", "colour", "large"):
        values = chance.integers(0, 256, (rows, *shape)).astype(np.uint8)
        return {"column": "x", "dtype": "uint8", "shape": shape, **({"axes": axes} if len(shape) == 3 else {})}, values
    values = chance.standard_normal((rows, *shape)).astype(np.float32)
    if kind == "row":
        values[:, 0] = np.arange(rows)
    return {"column": "x", "dtype": "float32", "shape": shape}, values


def write_targets(folder: Path, count: int) -> Path:
    """Write rows of 4 numbers with ``count`` numbers as targets."""
    chance = np.random.default_rng(2)
    splits = {
        split: (chance.standard_normal((rows, 4)).astype(np.float32), chance.random((rows, count)).astype(np.float32))
        for split, rows in ROWS.items()
    }
    subject = Subject(
        name="numbers",
        meaning="made up",
        input=InputDescription(column="x", dtype="float32", shape=(4,)),
        target=TargetDescription(column="y", dtype="float32", shape=(count,)),
        class_names=(),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    write_dataset(open_store(folder), subject, splits, rows_per_group=20)
    return folder
