"""Texts are found by row and rows by text, over files and row groups."""

from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.texts import first_row_of_text, texts_of_rows
from relatif.pipeline.datasets.writing import write_chunks
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError

TEXTS = [f"name {number % 7}{'é' * (number % 2)}" for number in range(23)]  # each comes again after 14 rows


def subject(text_column: str | None) -> Subject:
    return Subject(
        name="texts",
        meaning="made up",
        input=InputDescription(column="name", dtype="uint8", shape=(2,), text_column=text_column),
        class_names=("a",),
        provenance=Provenance(origin="made up", licence="none", licence_url="", sources=()),
    )


def written(folder: Path, text_column: str | None = "text") -> tuple[Store, PreparedDataset]:
    store, rows = open_store(folder), len(TEXTS)
    texts = None if text_column is None else tuple(TEXTS)
    chunk = Chunk(np.zeros((rows, 2), np.uint8), np.zeros(rows, np.int64), texts)
    write_chunks(store, subject(text_column), {"train": [chunk], "test": [chunk]}, rows_per_file=10, rows_per_group=4)
    return store, open_dataset(store)


@pytest.mark.parametrize("rows", [[0], [22], [3, 4, 9, 10, 11], [20, 0, 20], range(23), []])
def test_rows_have_their_texts(tmp_path: Path, rows: list[int]) -> None:
    store, dataset = written(tmp_path)
    assert texts_of_rows(store, dataset, "train", rows) == {row: TEXTS[row] for row in rows}


def test_only_the_files_that_are_needed_are_read(tmp_path: Path) -> None:
    store, dataset = written(tmp_path)
    for part in dataset.description.splits["train"].files[:2]:
        (tmp_path / part.path).write_bytes(b"")
    assert texts_of_rows(store, dataset, "train", [21]) == {21: TEXTS[21]}
    with pytest.raises(DataError, match=r"whole Parquet file at .*train/part-00000\.parquet"):
        texts_of_rows(store, dataset, "train", [9])


@pytest.mark.parametrize("row", [-1, 23])
def test_a_row_beyond_the_split_is_an_error(tmp_path: Path, row: int) -> None:
    with pytest.raises(IndexError, match=rf"from 0 to 22, found \[{row}\]"):
        texts_of_rows(*written(tmp_path), "train", [4, row])


def test_the_first_row_with_a_text_is_found(tmp_path: Path) -> None:
    store, dataset = written(tmp_path)
    for text in set(TEXTS):
        assert first_row_of_text(store, dataset, "test", text) == TEXTS.index(text)
    for missing in ("name", "name 0é", ""):
        expected = TEXTS.index(missing) if missing in TEXTS else None
        assert first_row_of_text(store, dataset, "test", missing) == expected


def test_data_without_texts_are_named(tmp_path: Path) -> None:
    store, dataset = written(tmp_path, text_column=None)
    for ask in (
        lambda: texts_of_rows(store, dataset, "train", [0]),
        lambda: first_row_of_text(store, dataset, "test", "a"),
    ):
        with pytest.raises(DataError, match=r"column of texts in data set texts at .*, found none described"):
            ask()
