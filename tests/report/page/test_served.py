"""Whom frequent examples explain, counted again from the tables."""

from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.served import served
from relatif.pipeline.report.page.sources import source_of
from tests.support.finished import MadeUp, finished_run
from tests.support.page_inputs import ROWS, write_kind


def test_the_class_that_a_frequent_example_serves_most_is_counted_pair_by_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("relatif.pipeline.report.page.served.OFTEN", 1)
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp())
    source, train = source_of(run), Positions()
    train.of([7, 0, 3, 2, 1, 50])
    found = served(source, train)
    assert found is not None

    lists = pq.read_table(f"{run.store.url}/tables/top_k").to_pylist()
    tests = pq.read_table(f"{run.store.url}/tables/test_examples").to_pylist()
    explained = {row["test_index"]: row["explained_label"] for row in tests}
    assert found["inputs"] == [Counter(explained.values())[each] for each in range(3)]
    least = 8 * ROWS["test"] / ROWS["train"]
    shown = 0
    for method, by in found["by"].items():
        for position, row in enumerate(train.rows):
            mine = [each for each in lists if (each["method"], each["train_index"]) == (method, row)]
            counts = Counter(explained[each["test_index"]] for each in mine)
            assert (str(position) in by) is (len(mine) >= max(2, least))
            if str(position) in by:
                label, many = by[str(position)]
                assert many == counts[label] == max(counts.values())
                shown += 1
    assert shown > 3


def test_without_classes_nothing_is_told(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey", classes=25), MadeUp())
    assert served(source_of(run), Positions()) is None
