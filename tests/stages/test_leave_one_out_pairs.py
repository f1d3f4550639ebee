"""Which pairs are looked at: the sample of test inputs, the best examples from the tables, the rows read for them."""

from pathlib import Path

import pyarrow as pa
import pytest

from pipeline.datasets.shards import open_dataset, read_shard
from pipeline.stages.leave_one_out_pairs import Pair, best_pairs, read_rows, sampled_rows
from pipeline.stages.model import Source
from pipeline.storage.parquet import write_table
from pipeline.storage.store import Store, open_store
from schemas import run_directory
from schemas.errors import DataError
from schemas.tables import METHODS, TEST_EXAMPLES, TOP_K
from tests.support.images import LOGISTIC, write_images


def test_the_sample_is_drawn_without_replacement_by_the_seed_alone() -> None:
    found = sampled_rows(1000, 100, 0)
    assert found == sampled_rows(1000, 100, 0) == sorted(set(found))
    assert len(found) == 100
    assert max(found) < 1000
    assert found != sampled_rows(1000, 100, 1)
    assert set(sampled_rows(1000, 10, 0)) < set(found), "a larger sample holds the smaller one"
    assert sampled_rows(7, 7, 3) == list(range(7))


def test_every_row_is_as_likely_as_any_other() -> None:
    counts = [0] * 10
    for seed in range(2000):
        for row in sampled_rows(10, 3, seed):
            counts[row] += 1
    assert all(480 <= count <= 720 for count in counts), "600 each, give or take six standard deviations"


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
    return store


def test_rank_1_of_every_method_and_the_label_explained(tmp_path: Path) -> None:
    assert best_pairs(tables(tmp_path), [1, 4]) == [
        Pair(method, test, 10 * test + number, test % 3) for test in (1, 4) for number, method in enumerate(METHODS)
    ]


@pytest.mark.parametrize(("without", "asked", "missing"), [(("l_relatif", 4), [1, 4], 1), (None, [1, 5], 4)])
def test_a_missing_explanation_is_told(
    tmp_path: Path, without: tuple[str, int] | None, asked: list[int], missing: int
) -> None:
    with pytest.raises(DataError, match=f"of 2 test inputs in .*, found {missing} missing; run the score stage again"):
        best_pairs(tables(tmp_path, without=without), asked)


def test_scattered_rows_are_read(tmp_path: Path) -> None:
    data = open_store(write_images(tmp_path, train=200))
    dataset = open_dataset(data)
    source = Source(open_store(tmp_path / "run"), data, dataset, LOGISTIC)
    (whole,) = (read_shard(data, dataset, shard) for shard in dataset.shards("train", rows=200))
    rows = [0, 49, 50, 199]
    inputs, labels = read_rows(source, dataset.shards("train", rows=50), rows)
    assert inputs.equal(whole.inputs[rows])
    assert labels.equal(whole.labels[rows])
