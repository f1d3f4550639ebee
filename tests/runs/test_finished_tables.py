"""Reading finished tables: methods in the order of the list, columns by row, rows by index."""

from pathlib import Path

import pyarrow as pa
import pytest

from relatif.pipeline.runs.finished_tables import column_by_row, rows_by_index, table_methods, tensor_batches
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import DataError
from relatif.schemas.tables import TOP_K, TRAIN_EXAMPLES


def written(folder: Path, rows: list[dict[str, object]]) -> Store:
    """Write a top_k table over two files."""
    store, spec = open_store(folder), TableSpec(TOP_K.name, TOP_K.meaning, TOP_K.schema)
    for part, some in enumerate((rows[:2], rows[2:])):
        table = pa.Table.from_pylist(some, schema=spec.schema)
        write_table(store, f"top_k/part-{part}.parquet", table, spec, {})
    return store


def row(method: str, test: int, train: int) -> dict[str, object]:
    return {"method": method, "test_index": test, "rank": 1, "train_index": train, "score": 0.5}


ROWS = [row("negative_influence", 1, 7), row("influence", 0, 3), row("l_relatif", 2, 3), row("influence", 3, 9)]


def test_methods_come_in_the_order_of_the_list(tmp_path: Path) -> None:
    assert table_methods(written(tmp_path, ROWS)) == ("influence", "l_relatif", "negative_influence")


def test_an_unknown_method_and_an_empty_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected methods among influence, .*, found cosine; use those .*top_k"):
        table_methods(written(tmp_path / "unknown", [*ROWS, row("cosine", 4, 1)]))
    with pytest.raises(DataError, match=r"expected explanations in .*, found no row"):
        table_methods(written(tmp_path / "empty", []))


def test_batches_number_the_methods_that_are_asked_for(tmp_path: Path) -> None:
    batches = tensor_batches(
        written(tmp_path, ROWS), "top_k", ["method", "train_index"], methods=table_methods(open_store(tmp_path))
    )
    found = [(int(method), int(train)) for some in batches for method, train in zip(*some, strict=True)]
    assert found == [(2, 7), (0, 3), (1, 3), (0, 9)]


def test_columns_come_in_the_order_of_their_index_and_every_row_once(tmp_path: Path) -> None:
    (train,) = column_by_row(written(tmp_path / "whole", ROWS), "top_k", "test_index", ["train_index"])
    assert train.tolist() == [3, 7, 3, 9]
    with pytest.raises(DataError, match=r"each test_index from 0 once in .*, found 3 rows for 3 of them up to 3"):
        column_by_row(written(tmp_path / "gap", ROWS[1:]), "top_k", "test_index", ["train_index"])


def test_rows_are_found_by_their_index(tmp_path: Path) -> None:
    found = list(rows_by_index(written(tmp_path, ROWS), "top_k", "train_index", [3]))
    assert [each["test_index"] for each in found] == [0, 2]


def test_tables_from_before_a_column_was_added_are_read(tmp_path: Path) -> None:
    added = {"train_id", "target", "prediction"}
    known = pa.schema([field for field in TRAIN_EXAMPLES.schema if field.name not in added])
    rows = [dict.fromkeys(known.names, index) for index in range(3)]
    old = TableSpec(TRAIN_EXAMPLES.name, TRAIN_EXAMPLES.meaning, known)
    write_table(open_store(tmp_path), "train_examples/part-0.parquet", pa.Table.from_pylist(rows, known), old, {})
    (loss,) = column_by_row(open_store(tmp_path), "train_examples", "train_index", ["loss"])
    assert loss.tolist() == [0.0, 1.0, 2.0]
    assert list(rows_by_index(open_store(tmp_path), "train_examples", "train_index", [1])) == [rows[1]]
