"""Rows of the examples' tables by index; a table that lacks one or has it twice is refused."""

from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.report.example_rows import rows_of_examples
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.support.written_texts import train_rows, write_text_run


def test_rows_stand_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    tables = open_store(write_text_run(tmp_path)).child("tables")
    found = rows_of_examples(tables, "train", np.array([1, 4, 6]), ["loss", "train_id"])
    assert found.of(np.array([6, 1, 6])).to_pylist() == [
        {"loss": np.float32(train_rows()[i]["loss"]), "train_id": f"train {i}"} for i in (6, 1, 6)
    ]
    assert rows_of_examples(tables, "train", np.empty(0, np.int64), ["loss"]).columns.num_rows == 0


def test_each_example_stands_once(tmp_path: Path) -> None:
    out = write_text_run(tmp_path)
    tables = open_store(out).child("tables")
    with pytest.raises(DataError, match=r"expected each of 2 examples .* found 1 row"):
        rows_of_examples(tables, "train", np.array([1, 7]), ["loss"])
    part = out / "tables/train_examples/part-00000.parquet"
    part.with_name("part-00002.parquet").write_bytes(part.read_bytes())
    with pytest.raises(DataError, match=r"expected each of 2 examples .* found \d row"):
        rows_of_examples(tables, "train", np.array([5, 6]), ["loss"])
