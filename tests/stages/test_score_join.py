"""Parts of units become tables: the best of all candidates in order, and every row once."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.pipeline.stages import score_join
from relatif.pipeline.stages.score_join import BlockExtent, join_examples, join_top_k
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.methods import PAPER_METHODS as METHODS
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES
from tests.support.table_rows import filled, number_columns

TESTS, FIRST_TEST, K = 7, 30, 4
METADATA = {"damping": "0.001"}


def write_unit(store: Store, block: int, unit: int, rows: list[tuple[str, int, int, int, float]]) -> FileReceipt:
    """Write a unit's candidates, by method, test input and rank as units do."""
    ordered = sorted(rows, key=lambda row: (METHODS.index(row[0]), row[1], row[2]))
    columns = list(zip(*ordered, strict=True)) or [()] * len(TOP_K.schema)
    table = filled(TOP_K, dict(zip(TOP_K.schema.names, columns, strict=False)))
    return write_table(store, run_directory.unit_file(block, unit, TOP_K.name), table, TOP_K, METADATA)


def candidates(units: int, seed: int) -> list[list[tuple[str, int, int, int, float]]]:
    """Candidates of units of 10 training rows each; few different scores, so that there are ties within and between."""
    random = np.random.default_rng(seed)
    rows: list[list[tuple[str, int, int, int, float]]] = [[] for _ in range(units)]
    for method in METHODS:
        for test in range(FIRST_TEST, FIRST_TEST + TESTS):
            for unit in range(units):
                count = K if unit == 0 else int(random.integers(0, K + 1))
                trains = random.choice(10, count, replace=False) + 10 * unit
                scores = np.sort(random.integers(-3, 3, count) / 2)[::-1]
                for rank, (train, score) in enumerate(zip(np.sort(trains), scores, strict=True), start=1):
                    rows[unit].append((method, test, rank, int(train), float(score)))
    return rows


def expected_rows(units: list[list[tuple[str, int, int, int, float]]]) -> list[dict[str, object]]:
    everything = [row for unit in units for row in unit]
    result = []
    for test in range(FIRST_TEST, FIRST_TEST + TESTS):
        for method in METHODS:
            found = sorted((-score, train) for name, at, _, train, score in everything if (name, at) == (method, test))
            for rank, (negative, train) in enumerate(found[:K], start=1):
                values = (method, test, rank, train, -negative, None)
                result.append(dict(zip(TOP_K.schema.names, values, strict=True)))
    return result


@settings(max_examples=25)
@given(st.integers(1, 4), st.integers(0, 10**6), st.sampled_from([1, 3, 1024]))
def test_the_best_of_all_units_are_kept_with_ties_to_the_smaller_index(units: int, seed: int, at_once: int) -> None:
    store = Store(f"memory://join-{units}-{seed}-{at_once}")
    parts = candidates(units, seed)
    written = tuple(write_unit(store, 2, unit, rows) for unit, rows in enumerate(parts))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score_join, "ROWS_AT_ONCE", at_once)
        extent = BlockExtent(2, FIRST_TEST, FIRST_TEST + TESTS, written)
        receipt = join_top_k(store, extent, K, METHODS, METADATA)
    assert receipt.path == "tables/top_k/part-00002.parquet"
    with store.open(receipt.path) as file:
        found = pq.read_table(file)
    assert found.to_pylist() == expected_rows(parts)
    assert receipt.rows == TESTS * len(METHODS) * K


def test_parts_of_examples_are_put_one_after_the_other(tmp_path: Path) -> None:
    store, parts = open_store(tmp_path), []
    zeros = dict.fromkeys(number_columns(TRAIN_EXAMPLES), 0)
    for unit, rows in enumerate([3, 1, 2]):
        first = sum([3, 1, 2][:unit])
        table = pa.Table.from_pylist([{**zeros, "train_index": first + row} for row in range(rows)])
        path = run_directory.unit_file(0, unit, TRAIN_EXAMPLES.name)
        parts.append(
            write_table(
                store,
                path,
                filled(TRAIN_EXAMPLES, {name: table[name] for name in table.schema.names}),
                TRAIN_EXAMPLES,
                {},
            )
        )
    receipt = join_examples(store, parts, "tables/train_examples/part-00000.parquet", TRAIN_EXAMPLES, METADATA)
    found = pq.read_table(tmp_path / receipt.path)
    assert found["train_index"].to_pylist() == list(range(6))
    assert found.schema.metadata[b"relatif.damping"] == b"0.001"
    assert receipt.rows == 6


def test_a_part_that_is_gone_or_another_is_told_and_nothing_is_published(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    parts = [write_unit(store, 0, unit, candidates(2, 0)[unit]) for unit in range(2)]
    extent = BlockExtent(0, FIRST_TEST, FIRST_TEST + TESTS, tuple(parts))
    (tmp_path / parts[1].path).write_bytes((tmp_path / parts[0].path).read_bytes())
    with pytest.raises(StorageError, match=r"damage: .*00000-00001\.top_k\.parquet has "):
        join_top_k(store, extent, K, METHODS, {})
    (tmp_path / parts[1].path).unlink()
    with pytest.raises(StorageError, match=r"damage: .*00000-00001\.top_k\.parquet is missing"):
        join_top_k(store, extent, K, METHODS, {})
    with pytest.raises(StorageError, match=r"damage: .*00000-00001\.top_k\.parquet is missing"):
        join_examples(store, parts[1:], "a.parquet", TEST_EXAMPLES, {})
    assert list(tmp_path.glob("**/*.parquet")) == [tmp_path / run_directory.unit_file(0, 0, TOP_K.name)]
