"""Identifiers of rows in any order are those that the data gives them."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from relatif.pipeline.datasets.ids import RowIds
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
