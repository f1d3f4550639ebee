"""Which pairs are looked at: the best examples from the tables."""

from pathlib import Path

import pyarrow as pa
import pytest

from relatif.pipeline.evaluations.best_pairs import Pair, best_pairs
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K


def tables(folder: Path, *, without: tuple[str, int] | None = None) -> Store:
    """Write tables of 5 test inputs: method m explains input t best by 10 t + m, and by 99 next; two files of top_k."""
    store = open_store(folder)
    zeros = {"label": 0, "predicted_label": 0, "probability": 0.0, "loss": 0.0, "self_influence": 0.0}
    tests = [{"test_index": t, "explained_label": t % 3} | zeros for t in range(5)]
    rows = [
        {"method": method, "test_index": t, "rank": rank, "train_index": train, "score": 1.0}
        for t in range(5)
        for number, method in enumerate(METHODS)
        for rank, train in ((2, 99), (1, 10 * t + number))
        if (method, t) != without
    ]
    for spec, content in ((TEST_EXAMPLES, [tests]), (TOP_K, [rows[:17], rows[17:]])):
        for part, some in enumerate(content):
            table = pa.Table.from_pylist(some, schema=spec.schema)
            write_table(store, run_directory.table_part(spec.name, part), table, spec, {})
    return store.child(run_directory.TABLES)


def test_rank_1_of_every_method(tmp_path: Path) -> None:
    pairs = [Pair(method, test, 10 * test + number) for test in (1, 4) for number, method in enumerate(METHODS)]
    assert best_pairs(tables(tmp_path), [1, 4], tuple(METHODS)) == pairs
    some = ("influence", "l_relatif")
    assert best_pairs(tables(tmp_path), [1, 4], some) == [pair for pair in pairs if pair.method in some]


@pytest.mark.parametrize(("without", "asked", "missing"), [(("l_relatif", 4), [1, 4], 1), (None, [1, 5], len(METHODS))])
def test_a_missing_explanation_is_told(
    tmp_path: Path, without: tuple[str, int] | None, asked: list[int], missing: int
) -> None:
    with pytest.raises(DataError, match=f"of 2 test inputs in .*, found {missing} missing; run the score stage again"):
        best_pairs(tables(tmp_path, without=without), asked, tuple(METHODS))
