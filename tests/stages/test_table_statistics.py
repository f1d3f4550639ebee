"""The statistics stage on hand-written tables, against SQL."""

from itertools import combinations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.stages.statistics import statistics_from_tables
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import INFLUENCE_SETS, OVERLAP, TOP_K, TRAIN_EXAMPLES
from tests.support.table_rows import filled, number_columns

TESTS, TRAINING, RANKS = 37, 60, 6
SET_K, OVERLAP_K = (1, 5), (1, 3, 6)
SUM_ROUNDING = 1e-12
"""Relative: SQL adds up to 60 float64 numbers with rounding."""


def explanations(seed=0, first_test=0):
    """Return top_k rows; the training examples of low index are popular, so that sets and overlaps are not trivial."""
    random = np.random.default_rng(seed)
    popularity = 1.0 / np.arange(1, TRAINING + 1)
    rows = [
        (method, test, rank, int(train))
        for method in METHODS
        for test in range(first_test, first_test + TESTS)
        for rank, train in enumerate(random.choice(TRAINING, RANKS, False, popularity / popularity.sum()), start=1)
    ]
    columns = dict(zip(("method", "test_index", "rank", "train_index"), zip(*rows, strict=True), strict=True))
    return pa.table(
        {**columns, "score": np.zeros(len(rows), np.float32), "train_id": pa.nulls(len(rows), pa.string())}
    ).cast(TOP_K.schema)


def training_rows(seed=1):
    random = np.random.default_rng(seed)
    columns = {name: random.random(TRAINING, np.float32) for name in number_columns(TRAIN_EXAMPLES)[3:]}
    index = np.arange(TRAINING)
    return filled(TRAIN_EXAMPLES, {"train_index": index, "label": index % 3, "predicted_label": index % 2, **columns})


def write(folder, table, *, files=1, seed=None):
    """Write a table over some files, its rows in a random order where there is a seed."""
    if seed is not None:
        table = table.take(np.random.default_rng(seed).permutation(len(table)))
    folder.mkdir(parents=True)
    rows = -(-len(table) // files)
    for file in range(files):
        pq.write_table(table.slice(file * rows, rows), folder / f"part-{file:05d}.parquet", row_group_size=50)


def statistics(folder, **options):
    return statistics_from_tables(open_store(folder), influence_set_k=SET_K, overlap_k=OVERLAP_K, **options)


@pytest.fixture
def tables(tmp_path):
    write(tmp_path / "top_k", explanations(), files=3, seed=2)
    write(tmp_path / "train_examples", training_rows(), files=2, seed=3)
    return tmp_path


def replace(tables, name, table):
    for file in (tables / name).iterdir():
        file.unlink()
    (tables / name).rmdir()
    write(tables / name, table)


def test_influence_sets_agree_with_sql(tables):
    found, _ = statistics(tables)

    expected = duckdb.sql(f"""
        WITH ks AS (SELECT unnest({list(SET_K)}) AS k),
        sets AS (SELECT DISTINCT method, k, train_index FROM '{tables}/top_k/*.parquet', ks WHERE rank <= k)
        SELECT method, k, count(*), avg(probability::DOUBLE), stddev_pop(probability::DOUBLE)
        FROM sets JOIN '{tables}/train_examples/*.parquet' USING (train_index) GROUP BY ALL""").fetchall()
    by_key = {(method, k): values for method, k, *values in expected}
    rows = found.to_pylist()
    assert [(row["method"], row["k"]) for row in rows] == [(method, k) for method in METHODS for k in SET_K]
    for row in rows:
        size, mean, std = by_key[row["method"], row["k"]]
        assert (row["test_count"], row["cardinality"]) == (TESTS, size)
        assert row["cardinality_ratio"] == size / (row["k"] * TESTS)
        assert row["probability_mean"] == pytest.approx(mean, rel=SUM_ROUNDING)
        assert row["probability_std"] == pytest.approx(std, rel=SUM_ROUNDING)
    assert found.schema.equals(INFLUENCE_SETS.schema)


def test_overlaps_agree_with_sql(tables):
    _, found = statistics(tables)

    counts = duckdb.sql(f"""
        WITH ks AS (SELECT unnest({list(OVERLAP_K)}) AS k), t AS (FROM '{tables}/top_k/*.parquet')
        SELECT a.method, b.method, k, count(*) FROM ks, t a JOIN t b USING (test_index, train_index)
        WHERE a.rank <= k AND b.rank <= k GROUP BY ALL""").fetchall()
    shared = {(a, b, k): count for a, b, k, count in counts}
    expected = [
        {"method_a": a, "method_b": b, "k": k, "overlap": shared.get((a, b, k), 0) / (k * TESTS)}
        for a, b in combinations(METHODS, 2)
        for k in OVERLAP_K
    ]
    assert found.to_pylist() == expected
    assert 0 < min(row["overlap"] for row in expected if row["k"] > 1) < 1
    assert found.schema.equals(OVERLAP.schema)


@pytest.mark.parametrize("tests_at_once", [1, 5, 36])
def test_results_do_not_depend_on_the_size_of_a_block(tables, tests_at_once):
    whole, blocks = statistics(tables), statistics(tables, block_bytes=tests_at_once * len(METHODS) * RANKS * 8)

    assert blocks[0].equals(whole[0])
    assert blocks[1].equals(whole[1])


@pytest.mark.parametrize("files", [1, 4, 1000])
def test_results_do_not_depend_on_files_and_order_of_rows(tables, tmp_path, files):
    write(tmp_path / "other/top_k", explanations(), files=files, seed=files)
    write(tmp_path / "other/train_examples", training_rows(), files=7)

    for one, other in zip(statistics(tables), statistics(tmp_path / "other"), strict=True):
        assert other.equals(one)


def test_test_inputs_need_not_start_at_zero(tables):
    from_zero = statistics(tables)
    replace(tables, "top_k", explanations(first_test=500))

    assert statistics(tables)[0].equals(from_zero[0])
    assert statistics(tables)[1].equals(from_zero[1])


@pytest.mark.parametrize("options", [{}, {"block_bytes": 5 * len(METHODS) * RANKS * 8}])
def test_test_inputs_may_have_gaps(tables, options):
    whole = statistics(tables)
    rows = explanations().to_pylist()
    moved = [{**row, "test_index": row["test_index"] + 100 * (row["test_index"] > 20)} for row in rows]
    replace(tables, "top_k", pa.Table.from_pylist(moved, schema=TOP_K.schema))

    for one, other in zip(whole, statistics(tables, **options), strict=True):
        assert other.equals(one)


def test_a_k_that_is_asked_twice_counts_once(tables):
    twice = statistics_from_tables(open_store(tables), influence_set_k=(5, 5), overlap_k=(3, 3))
    once = statistics_from_tables(open_store(tables), influence_set_k=(5,), overlap_k=(3,))

    assert twice[0].equals(once[0])
    assert twice[1].equals(once[1])


@pytest.mark.parametrize("option", ["influence_set_k", "overlap_k"])
def test_k_beyond_the_ranks_is_refused(tables, option):
    asked = {"influence_set_k": (1,), "overlap_k": (1,), option: (1, RANKS + 1)}

    with pytest.raises(ConfigurationError, match=f"between 1 and {RANKS}.*found {RANKS + 1}; lower k"):
        statistics_from_tables(open_store(tables), **asked)


def keep(table, condition):
    return table.filter(pa.array([condition(row) for row in table.to_pylist()]))


def change(table, row, **values):
    rows = table.to_pylist()
    rows[row].update(values)
    return pa.Table.from_pylist(rows, schema=table.schema)


BROKEN_TOP_K = {
    "unknown method": (
        lambda table: change(table, 9, method="cosine"),
        "expected methods among influence, .*found cosine",
    ),
    "fewer ranks of a test input": (
        lambda table: keep(table, lambda row: (row["method"], row["test_index"], row["rank"]) != ("influence", 7, 6)),
        "expected 6 ranks .* found 5 for influence of test_index 7;",
    ),
    "missing test input of a method": (
        lambda table: keep(table, lambda row: (row["method"], row["test_index"]) != ("theta_relatif", 36)),
        "found 0 for theta_relatif of test_index 36;",
    ),
    "gap in the ranks": (lambda table: change(table, 5, rank=7), "expected 7 ranks .* found 6"),
    "row twice": (lambda table: pa.concat_tables([table, table.slice(3, 2)]), "found 2 row.s. too many"),
    "training example beyond the end": (
        lambda table: change(table, 8, train_index=TRAINING),
        f"in train_examples, found {TRAINING} .test_index 1.",
    ),
    "negative index": (lambda table: change(table, 8, train_index=-1), "expected train_index from 0 .*found -1"),
    "rank zero": (lambda table: change(table, 0, rank=0), "expected rank from 1 .*found 0"),
    "no row": (lambda table: table.slice(0, 0), "expected explanations in .*found no row"),
}


@pytest.mark.parametrize("case", BROKEN_TOP_K)
def test_an_incomplete_top_k_is_refused_by_name(tables, case):
    damage, message = BROKEN_TOP_K[case]
    replace(tables, "top_k", damage(explanations()))

    with pytest.raises(DataError, match=message) as caught:
        statistics(tables)
    assert str(tables / "top_k") in str(caught.value)


BROKEN_TRAINING = {
    "missing row": (lambda table: keep(table, lambda row: row["train_index"] != 0), "in train_examples, found 0 "),
    "row twice": (lambda table: pa.concat_tables([table, table.slice(4, 1)]), "found 61 rows for 60 training examples"),
    "no row": (lambda table: table.slice(0, 0), "found 0 rows"),
    "a null among values": (
        lambda table: table.set_column(3, "probability", pa.array([0.5] * (TRAINING - 1) + [None], pa.float32())),
        "expected a value in every row of probability .*null",
    ),
    "not a number": (
        lambda table: table.set_column(3, "probability", pa.array([float("nan")] * TRAINING, pa.float32())),
        "expected probabilities between 0 and 1, found nan in train_examples",
    ),
}


@pytest.mark.parametrize("case", BROKEN_TRAINING)
def test_incomplete_train_examples_are_refused(tables, case):
    damage, message = BROKEN_TRAINING[case]
    replace(tables, "train_examples", damage(training_rows()))

    with pytest.raises(DataError, match=message):
        statistics(tables)


@pytest.mark.parametrize("dropped", ["l_relatif", "nearest_neighbour"])
def test_statistics_go_through_the_methods_that_the_table_holds(tables, dropped):
    whole = statistics(tables)
    replace(tables, "top_k", keep(explanations(), lambda row: row["method"] != dropped))

    sets, overlap = statistics(tables)

    assert sets.equals(keep(whole[0], lambda row: row["method"] != dropped))
    assert overlap.equals(keep(whole[1], lambda row: dropped not in (row["method_a"], row["method_b"])))


def test_without_probabilities_sets_are_counted_all_the_same(tables):
    whole, _ = statistics(tables)
    nothing = pa.array([None] * TRAINING, pa.float32())
    replace(tables, "train_examples", training_rows().set_column(3, "probability", nothing))

    sets, _ = statistics(tables)

    assert sets["cardinality"].equals(whole["cardinality"])
    assert sets["probability_mean"].null_count == sets["probability_std"].null_count == sets.num_rows


@pytest.mark.parametrize("name", ["top_k", "train_examples"])
def test_a_table_that_is_not_there_is_named(tables, name):
    (tables / name).rename(tables / "elsewhere")

    with pytest.raises(MissingStageError, match=f"Parquet files in .*{name}"):
        statistics(tables)
