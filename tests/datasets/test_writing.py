"""Data sets are written in row order, the same way every time, and only if they make sense."""

import struct
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.writing import write_chunks, write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

SUBJECT = Subject(
    name="made-up",
    meaning="noise",
    input=InputDescription(column="image", dtype="uint8", shape=(2, 3)),
    class_names=("a", "b", "c"),
    provenance=Provenance(origin="a generator", licence="none", licence_url="", sources=()),
)
INPUTS = np.random.default_rng(0).integers(0, 256, (25, 2, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, 25)


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_library_finds_the_rows_in_order(tmp_path: Path) -> None:
    write_dataset(open_store(tmp_path), SUBJECT, {"train": (INPUTS, LABELS)}, rows_per_file=10, rows_per_group=4)
    query = f"select image, label from read_parquet('{tmp_path}/train/*.parquet', file_row_number = true)"
    rows = duckdb.sql(query).fetchall()
    assert b"".join(image for image, _ in rows) == INPUTS.tobytes()
    assert [label for _, label in rows] == LABELS.tolist()


def test_files_and_row_groups_are_cut_as_asked(tmp_path: Path) -> None:
    description = write_dataset(
        open_store(tmp_path), SUBJECT, {"train": (INPUTS, LABELS)}, rows_per_file=10, rows_per_group=4
    )
    parts = description.splits["train"].files
    assert [part.path for part in parts] == [f"train/part-0000{i}.parquet" for i in range(3)]
    assert [part.row_groups for part in parts] == [(4, 4, 2), (4, 4, 2), (4, 1)]
    for part in parts:
        metadata = pq.read_metadata(tmp_path / part.path)
        assert tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)) == part.row_groups
        assert (tmp_path / part.path).stat().st_size == part.bytes


def test_the_same_data_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_dataset(open_store(tmp_path / name), SUBJECT, {"train": (INPUTS, LABELS)}, rows_per_file=10)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_writing_again_leaves_nothing_of_the_old_data_set(tmp_path: Path) -> None:
    store = open_store(tmp_path / "again")
    write_dataset(store, SUBJECT, {"train": (INPUTS, LABELS)}, rows_per_file=5)
    (tmp_path / "again/train/notes.txt").write_text("not ours")
    write_dataset(store, SUBJECT, {"train": (INPUTS[:7], LABELS[:7])})
    write_dataset(open_store(tmp_path / "new"), SUBJECT, {"train": (INPUTS[:7], LABELS[:7])})
    assert files(tmp_path / "again") == {**files(tmp_path / "new"), "train/notes.txt": b"not ours"}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ((INPUTS.astype(np.int16), LABELS), "uint8 of shape .2, 3., found int16"),
        ((INPUTS[:, :, :2], LABELS), "found uint8 of shape .2, 2."),
        ((INPUTS, LABELS[:-1]), "25 inputs and 24 labels"),
        ((INPUTS[:0], LABELS[:0]), "0 inputs"),
        ((INPUTS, LABELS.astype(np.int16) + 1), "from 0 to 2, found int16 from 1 to 3"),
        ((INPUTS, LABELS.astype(np.int16) - 1), "from 0 to 2, found int16 from -1 to 1"),
        ((INPUTS, LABELS / 2), "whole numbers from 0 to 2, found float64 from 0.0 to 1.0"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(tmp_path: Path, arrays: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"made-up/train.*{message}"):
        write_dataset(open_store(tmp_path), SUBJECT, {"train": arrays})
    assert files(tmp_path) == {}


def test_counts_that_the_column_cannot_hold_are_refused(tmp_path: Path) -> None:
    counts = SUBJECT.model_copy(update={"class_names": ()})
    for beyond, message in ((0, ""), (1, "whole numbers from 0 to 2147483647, found int64 from 0 to 2147483648")):
        largest = np.where(LABELS.max() == LABELS, 2**31 - 1 + beyond, 0)
        with pytest.raises(DataError, match=message) if beyond else nullcontext():
            write_dataset(open_store(tmp_path / str(beyond)), counts, {"train": (INPUTS, largest)})
    assert files(tmp_path / "1") == {}


def features_subject() -> Subject:
    described = InputDescription(column="features", dtype="float32", shape=(3,))
    return SUBJECT.model_copy(update={"input": described})


def test_float32_values_are_stored_little_endian_whatever_the_memory_layout(tmp_path: Path) -> None:
    values = np.random.default_rng(2).standard_normal((25, 3)).astype(np.float32)
    values[0] = [-0.0, np.finfo(np.float32).tiny / 2, np.finfo(np.float32).max]
    for name, arrangement in (("a", values), ("b", np.asfortranarray(values))):
        write_dataset(open_store(tmp_path / name), features_subject(), {"train": (arrangement, LABELS)})
    query = f"select features from read_parquet('{tmp_path}/a/train/*.parquet', file_row_number = true)"
    rows = [row for (row,) in duckdb.sql(query).fetchall()]
    assert rows == [struct.pack("<3f", *row) for row in values.tolist()]
    assert files(tmp_path / "a") == files(tmp_path / "b")


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_float32_values_must_be_finite(tmp_path: Path, wrong: float) -> None:
    values = np.zeros((25, 3), np.float32)
    values[7, 1] = wrong
    with pytest.raises(DataError, match=f"expected finite inputs of made-up/train, found {wrong}"):
        write_dataset(open_store(tmp_path), features_subject(), {"train": (values, LABELS)})
    with pytest.raises(DataError, match=r"as float32 of shape \(3,\), found float64"):
        write_dataset(open_store(tmp_path), features_subject(), {"train": (values.astype(float), LABELS)})
    assert files(tmp_path) == {}


@pytest.mark.parametrize("cuts", [[], [4], [1, 2, 3, 9, 10, 21], [12, 24], list(range(1, 25))])
def test_where_chunks_end_is_not_seen(tmp_path: Path, cuts: list[int]) -> None:
    ends = [0, *cuts, 25]
    chunks = (Chunk(INPUTS[start:stop], LABELS[start:stop]) for start, stop in pairwise(ends))
    options = {"rows_per_file": 10, "rows_per_group": 4}
    write_chunks(open_store(tmp_path / "chunks"), SUBJECT, {"train": chunks}, **options)
    write_dataset(open_store(tmp_path / "whole"), SUBJECT, {"train": (INPUTS, LABELS)}, **options)
    assert files(tmp_path / "chunks") == files(tmp_path / "whole")


def test_chunks_that_fail_leave_nothing_behind(tmp_path: Path) -> None:
    def failing() -> Iterator[Chunk]:
        yield Chunk(INPUTS, LABELS)
        raise DataError("the last image is damaged")

    store = open_store(tmp_path)
    write_dataset(store, SUBJECT, {"train": (INPUTS, LABELS)}, rows_per_file=5)
    with pytest.raises(DataError, match="the last image is damaged"):
        write_chunks(store, SUBJECT, {"test": [Chunk(INPUTS, LABELS)], "train": failing()}, rows_per_file=10)
    with pytest.raises(DataError, match="at least 1 input of made-up/train, found none"):
        write_chunks(store, SUBJECT, {"train": []})
    with pytest.raises(DataError, match="found uint8 of shape"):
        write_chunks(store, SUBJECT, {"train": [Chunk(INPUTS, LABELS), Chunk(INPUTS[:, :, :1], LABELS)]})
    assert files(tmp_path) == {}


def test_texts_are_written_beside_the_inputs(tmp_path: Path) -> None:
    described = SUBJECT.input.model_copy(update={"text_column": "text"})
    subject = SUBJECT.model_copy(update={"input": described})
    texts = tuple(f"name {row}" for row in range(25))
    chunks = [Chunk(INPUTS[:7], LABELS[:7], texts[:7]), Chunk(INPUTS[7:], LABELS[7:], texts[7:])]
    write_chunks(open_store(tmp_path), subject, {"train": chunks}, rows_per_file=10, rows_per_group=4)
    query = f"select text, image from read_parquet('{tmp_path}/train/*.parquet', file_row_number = true)"
    assert duckdb.sql(query).fetchall() == [(text, row.tobytes()) for text, row in zip(texts, INPUTS, strict=True)]
    for wrong in (None, texts[:-1]):
        with pytest.raises(DataError, match=r"expected 25 texts for made-up/train, found (none|24)"):
            write_chunks(open_store(tmp_path), subject, {"train": [Chunk(INPUTS, LABELS, wrong)]})
    with pytest.raises(DataError, match="expected no texts for made-up/train, found 25"):
        write_chunks(open_store(tmp_path), SUBJECT, {"train": [Chunk(INPUTS, LABELS, texts)]})
