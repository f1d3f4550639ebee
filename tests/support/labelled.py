"""Prepared data sets whose files are not those of this project's writer, and are described as they are."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relatif.pipeline.datasets.description import (
    DATASET_JSON,
    FORMAT,
    DatasetDescription,
    InputDescription,
    Provenance,
    Subject,
)
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store


def described(subject: Subject, *, unlabelled: int | None) -> DatasetDescription:
    """Return the description of a data set without files, with so many test inputs that have no label."""
    provenance = subject.provenance.model_copy(update={"unlabelled": unlabelled})
    whole = subject.model_copy(update={"provenance": provenance})
    return DatasetDescription(**dict(whole), format=FORMAT, splits={})


def rewrite(folder: Path, split: str, table: pa.Table, **options: object) -> None:
    """Write a table in place of a split's first file, and describe the file as it is then."""
    groups = json.loads((folder / DATASET_JSON).read_text())["splits"][split]["files"][0]["row_groups"]
    pq.write_table(table, folder / split / "part-00000.parquet", row_group_size=groups[0], **options)
    describe_again(folder, split)


def describe_again(folder: Path, split: str) -> None:
    """Describe a split's first file as it is."""
    description = json.loads((folder / DATASET_JSON).read_text())
    part = description["splits"][split]["files"][0]
    data = (folder / part["path"]).read_bytes()
    part |= {"bytes": len(data), "sha256": sha256(data).hexdigest()}
    (folder / DATASET_JSON).write_text(json.dumps(description))


def with_label(folder: Path, split: str, row: int, label: int | None, **options: object) -> None:
    """Change one label in a split's first file, as other writers may leave it."""
    table = pq.read_table(folder / split / "part-00000.parquet")
    labels = table["label"].to_pylist()
    labels[row] = label
    rewrite(folder, split, table.set_column(1, "label", pa.array(labels, pa.int32())), **options)


def write_points(folder: Path, *, train: int = 60, test: int = 10, classes: int = 4) -> Path:
    """Write made-up points of the plane, float32 [2], as a prepared data set."""
    made = np.random.default_rng(0)
    splits = {
        split: (made.normal(size=(rows, 2)).astype(np.float32), np.arange(rows) % classes)
        for split, rows in (("train", train), ("test", test))
    }
    points = Subject(
        name="points",
        meaning="made-up points",
        input=InputDescription(column="point", dtype="float32", shape=(2,)),
        class_names=tuple(f"class {number}" for number in range(classes)),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    write_dataset(open_store(folder), points, splits, rows_per_group=20)
    return folder


def with_value(folder: Path, split: str, row: int, value: float) -> None:
    """Change the second value of one input of ``write_points``."""
    table = pq.read_table(folder / split / "part-00000.parquet")
    values = np.frombuffer(b"".join(table["point"].to_pylist()), "<f4").reshape(-1, 2).copy()
    values[row, 1] = value
    column = pa.array([each.tobytes() for each in values], pa.binary(8))
    rewrite(folder, split, table.set_column(0, "point", column))
