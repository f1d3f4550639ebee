"""Tables as arrays: rows in any order, columns that are null, lists that are short."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from relatif.pipeline.report.page.tables import EMPTY, identifiers, read_scores, read_tables
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES
from tests.support.finished import NUMBERS, RANKS, MadeUp, finished_run, write
from tests.support.page_inputs import write_kind, write_targets


def shuffled(run: Run, spec) -> list[dict]:
    rows = pq.read_table(f"{run.store.url}/tables/{spec.name}").to_pylist()
    np.random.default_rng(0).shuffle(rows)
    return rows


def test_rows_may_lie_in_any_order(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp(tests=(9, 2, 21), ids=True))
    before = read_tables(run)
    rows = {spec: shuffled(run, spec) for spec in (TRAIN_EXAMPLES, TEST_EXAMPLES, TOP_K)}
    for spec, table in rows.items():
        write(run, spec, pa.Table.from_pylist(table, schema=spec.schema))
    found = read_tables(run)
    assert found.test.index.tolist() == [2, 9, 21]
    for method, lists in found.lists.train.items():
        assert np.array_equal(lists, before.lists.train[method])
        for row in rows[TOP_K]:
            if row["method"] == method:
                assert lists[found.test.places(np.array([row["test_index"]]))[0], row["rank"] - 1] == row["train_index"]
    store = run.store.child(run_directory.TABLES)
    scores = read_scores(store, ("influence",), np.array([9]), RANKS)["influence"][0]
    listed = sorted((r["rank"], r["score"]) for r in rows[TOP_K] if (r["method"], r["test_index"]) == ("influence", 9))
    assert scores.tolist() == [score for _, score in listed]
    assert identifiers(store, TEST_EXAMPLES.name, "test_index", "test_id", [9]) == {9: "test-9"}


def test_lists_are_as_long_as_there_are_examples(tmp_path: Path) -> None:
    settings = {"data": {"train_limit": 5}}
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp(settings=settings))
    assert read_tables(run).lists.ranks == 5
    assert not any((lists == EMPTY).any() for lists in read_tables(run).lists.train.values())


def test_a_target_that_is_left_out_is_no_number(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "out", write_targets(tmp_path / "data", 1), MadeUp(NUMBERS))
    rows = pq.read_table(f"{run.store.url}/tables/train_examples").to_pylist()
    rows[1]["target"], rows[3]["target"], rows[4]["target"] = None, [None], [1.0, 2.0]
    write(run, TRAIN_EXAMPLES, rows)
    target = read_tables(run).train.numbers["target"]
    assert np.flatnonzero(np.isnan(target)).tolist() == [1, 3, 4]
    assert target[5] == rows[5]["target"][0]
