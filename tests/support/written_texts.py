"""A finished run over made-up texts with identifiers, written without computing anything: what exports and pages read.

``TRAIN`` training texts, ``TESTS`` test texts of which the last has no label, three classes.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.writing import write_chunks
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import LEAVE_ONE_OUT, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES
from tests.support.table_rows import filled

TRAIN, TESTS, RANKS = 7, 3, 4
CLASSES = ("red", "green", "blue")
WORDS = ("a, b", 'said "no"', "two\nlines", "Ünïcode 漢字", "", "=1+1", "plain")
TRAIN_TEXTS = tuple(f"{word} {row}" if word else "" for row, word in enumerate(WORDS))
TEST_TEXTS = ("first", "a;b\t", "<script>alert('</script>')")
USED = ("influence", "theta_relatif", "l_relatif", "nearest_neighbour", "negative_influence")

Row = dict[str, Any]


def train_rows() -> list[Row]:
    """Return the rows of ``train_examples``."""
    return [
        {
            "train_index": i,
            "label": i % 3,
            "predicted_label": (i + (i == 5)) % 3,
            "probability": 0.5 / (i + 1),
            "loss": 0.1 * i,
            "gradient_norm": 1.0 + i,
            "theta_norm": 2.0 + i,
            "self_influence": 4.0 + i,
            "train_id": f"train {i}",
        }
        for i in range(TRAIN)
    ]


def explained_rows() -> list[Row]:
    """Return the rows of ``test_examples``."""
    return [
        {
            "test_index": t,
            "label": None if t == TESTS - 1 else t,
            "predicted_label": (t + 1) % 3,
            "explained_label": (t + 1) % 3,
            "probability": 0.25,
            "loss": 1.5,
            "self_influence": 9.0,
            "test_id": f"test {t}",
        }
        for t in range(TESTS)
    ]


def influences() -> np.ndarray:
    """Return made-up influences [TESTS, TRAIN]."""
    return np.random.default_rng(0).normal(size=(TESTS, TRAIN))


def top_k_rows() -> list[Row]:
    """Return the rows of ``top_k``: by method, test input and rank, scores from the influences."""
    found = []
    for name in USED:
        for test, row in enumerate(influences()):
            scores = row / denominators(name)
            for rank, train in enumerate(np.argsort(-scores)[:RANKS].tolist(), start=1):
                key = {"method": name, "test_index": test, "rank": rank, "train_index": train}
                found.append({**key, "score": scores[train], "train_id": f"train {train}"})
    return found


def denominators(name: str) -> np.ndarray:
    """Return what a method divides influence by, with its sign, by definition [TRAIN]."""
    theta = np.array([row["theta_norm"] for row in train_rows()])
    ell = np.array([row["self_influence"] for row in train_rows()])
    found = {"theta_relatif": theta, "l_relatif": np.sqrt(ell)}.get(name, np.ones(TRAIN))
    return found * METHODS[name].sign if name == "negative_influence" else found


def leave_one_out_rows() -> list[Row]:
    """Return two rows of a table that names training examples without their identifiers."""
    numbers = ("predicted_test_loss_change", "test_loss_change", "parameter_change", "train_loss_change")
    zeros: Row = dict.fromkeys(numbers, 0.0)
    return [{"method": "influence", "test_index": t, "train_index": 5 - t, **zeros} for t in (1, 0)]


def write_text_run(folder: Path, *, ids: bool = True) -> Path:
    """Write the data, the record and the tables of the run; return its folder."""
    texts = InputDescription(column="input_ids", dtype="int64", shape=(2,), text_column="text", name="input_ids")
    subject = Subject(
        name="made-up texts",
        meaning="texts",
        input=texts,
        id_column="name" if ids else None,
        class_names=CLASSES,
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=(), unlabelled=1),
    )
    chunks = {
        "train": [_chunk(TRAIN_TEXTS, [row["label"] for row in train_rows()], "train" if ids else None)],
        "test": [_chunk(TEST_TEXTS, [row["label"] for row in explained_rows()], "test" if ids else None)],
    }
    described = write_chunks(open_store(folder / "data"), subject, chunks, rows_per_file=5, rows_per_group=2)
    configuration = {"task": "mine:task", "data": {"source": "somewhere", **({"id_column": "name"} if ids else {})}}
    recorded = {"fingerprint": described.fingerprint, "address": str(folder / "data")}
    (folder / "out").mkdir(parents=True)
    (folder / "out/run.json").write_text(json.dumps({"configuration": configuration, "data": recorded}))
    for spec, rows in (
        (TRAIN_EXAMPLES, train_rows()[::-1]),
        (TEST_EXAMPLES, explained_rows()),
        (TOP_K, top_k_rows()),
        (LEAVE_ONE_OUT, leave_one_out_rows()),
    ):
        _write(
            folder / "out", spec, rows if ids else [{k: v for k, v in row.items() if k[-3:] != "_id"} for row in rows]
        )
    return folder / "out"


def _chunk(texts: tuple[str, ...], labels: list[int | None], ids: str | None) -> Chunk:
    rows = len(texts)
    numbers = np.array([-1 if label is None else label for label in labels])
    names = None if ids is None else tuple(f"{ids} {row}" for row in range(rows))
    return Chunk(np.arange(2 * rows).reshape(rows, 2), numbers, texts, ids=names)


def _write(folder: Path, spec: TableSpec, rows: list[Row]) -> None:
    """Write a table in two files."""
    (folder / run_directory.table(spec.name)).mkdir(parents=True)
    table = filled(spec, pa.Table.from_pylist(rows).to_pydict())
    half = len(rows) // 2
    for part, some in enumerate((table[:half], table[half:])):
        pq.write_table(some, folder / run_directory.table_part(spec.name, part))
