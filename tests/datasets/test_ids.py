"""Identifiers of rows in any order are those that the data gives them."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from relatif.pipeline.datasets import ids as ids_module
from relatif.pipeline.datasets.ids import RowIds
from relatif.pipeline.datasets.shards import read_shard_ids
from relatif.pipeline.storage.store import open_store
from tests.datasets.test_chunks import NAMES, chunk, described, written


def test_rows_in_any_order_have_their_own_identifiers(tmp_path: Path) -> None:
    ids = RowIds(open_store(tmp_path), written(tmp_path, described(), chunk()), "fit")
    rows = np.array([24, 0, 13, 0, 9, 10], np.int64)
    assert ids.of(rows).to_pylist() == [NAMES[row] for row in rows]
    assert ids.of(rows[:0]).to_pylist() == []


def test_data_without_identifiers_has_null(tmp_path: Path) -> None:
    ids = RowIds(open_store(tmp_path), written(tmp_path, described(id_column=None), chunk(ids=None)), "fit")
    assert ids.of(np.array([3, 4])).equals(pa.nulls(2, pa.string()))


def test_rows_are_named_from_one_reading_of_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = RowIds(open_store(tmp_path), written(tmp_path, described(), chunk()), "fit")
    reads: list[int] = []

    def counted(*arguments: Any) -> list[str] | None:
        reads.append(1)
        return read_shard_ids(*arguments)

    monkeypatch.setattr(ids_module, "read_shard_ids", counted)
    names = ids.read(np.array([24, 3, 24, 9], np.int64))
    for rows in ([9, 24, 3], [3], [24, 24]):
        assert names.of(np.array(rows, np.int64)).to_pylist() == [NAMES[row] for row in rows]
    assert len(reads) == 1
