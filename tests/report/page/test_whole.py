"""The whole of a run, counted again from its tables."""

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.report.page.whole import agreement_text, whole
from relatif.pipeline.runs.run import Run
from relatif.schemas.tables import LEAVE_ONE_OUT, SCORES
from tests.support.finished import MadeUp, finished_run, write
from tests.support.page_inputs import ROWS, write_kind

N, M = ROWS["train"], ROWS["test"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp())


def table(run: Run, name: str) -> list[dict]:
    return pq.read_table(f"{run.store.url}/tables/{name}").to_pylist()


def of(run: Run) -> tuple[dict, Positions]:
    source, positions = source_of(run), Positions()
    return whole(run, source.tables, source.counts, positions), positions


def test_classes_are_counted_pair_by_pair(run: Run) -> None:
    found, _ = of(run)
    tests, trains = (
        {row[f"{part}_index"]: row for row in table(run, f"{part}_examples")} for part in ("test", "train")
    )
    confusion = Counter((row["label"], row["predicted_label"]) for row in tests.values())
    assert found["confusion"] == [[confusion[a, b] for b in range(3)] for a in range(3)]
    helped = Counter(
        (row["method"], tests[row["test_index"]]["explained_label"], trains[row["train_index"]]["label"])
        for row in table(run, "top_k")
    )
    for method, counts in found["helpers"].items():
        assert counts == [[helped[method, a, b] for b in range(3)] for a in range(3)]


def test_dominating_examples_stand_in_most_lists(run: Run) -> None:
    found, positions = of(run)
    trains = {row["train_index"]: row for row in table(run, "train_examples")}
    for method, dominating in found["dominating"].items():
        fan = Counter(row["train_index"] for row in table(run, "top_k") if row["method"] == method)
        expected = sorted(fan, key=lambda row, fan=fan: (-fan[row], row))[:36]
        assert [positions.rows[place] for place in dominating] == expected
        cover = source_of(run).counts.reach[method].examples[: found["reach"]["half"][method]].tolist()
        wrong = sum(trains[row]["label"] != trains[row]["predicted_label"] for row in cover)
        assert found["dominating_wrong"][method] == wrong


def test_table_1_and_overlap_are_those_of_the_methods_that_explain(run: Run) -> None:
    found, _ = of(run)
    methods = ["influence", "theta_relatif", "l_relatif", "nearest_neighbour"]
    assert [(row["method"], row["k"]) for row in found["table1"]] == [(name, k) for name in methods for k in (1, 5)]
    assert {row["paper_cardinality"] for row in found["table1"]} == {None}
    sets = {(row["method"], row["k"]): row["cardinality"] for row in table(run, "influence_sets")}
    assert [row["cardinality"] for row in found["table1"]] == [sets[row["method"], row["k"]] for row in found["table1"]]
    assert len(found["overlap"]) == 6 * 2


def test_influence_is_summed_class_by_class_from_dense_scores(run: Run) -> None:
    assert of(run)[0]["influence_by_class"] is None
    chance = np.random.default_rng(3)
    dense = chance.normal(size=(M, N)).astype(np.float32)
    rows = [
        {"test_index": test, "train_start": start, "influence": dense[test, start : start + 25].tolist()}
        for start in range(0, N, 25)
        for test in range(M)
    ]
    write(run, SCORES, pa.Table.from_pylist(rows, schema=SCORES.schema))
    found = of(run)[0]["influence_by_class"]
    explained = np.array([row["explained_label"] for row in table(run, "test_examples")])
    labels = np.array([row["label"] for row in table(run, "train_examples")])
    expected = [[dense[explained == a][:, labels == b].sum() / N for b in range(3)] for a in range(3)]
    assert np.array(found["values"]) == pytest.approx(np.array(expected), rel=2e-3, abs=1e-6)
    assert (found["inputs"], found["classes"]) == ("all", ["cat", "</script>", "dog"])


def test_pairs_that_were_left_out_are_shown_once(run: Run) -> None:
    assert of(run)[0]["leave_one_out"] is None
    chance = np.random.default_rng(4)
    rows = [
        {
            "method": method,
            "test_index": test,
            "train_index": test,
            "predicted_test_loss_change": 0.5 * test,
            "corrected_test_loss_change": None if test == 3 else float(test),
            "test_loss_change": 2.0 * test,
            "parameter_change": float(chance.random()),
            "train_loss_change": float(chance.random()),
        }
        for method in ("influence", "l_relatif")
        for test in range(1, 6)
    ]
    write(run, LEAVE_ONE_OUT, rows)
    found = of(run)[0]["leave_one_out"]
    assert found["points"] == [[0.5, 1, 2], [1, 2, 4], [1.5, None, 6], [2, 4, 8], [2.5, 5, 10]]
    assert found["text"] == (
        "5 examples were left out and the model retrained: the true change is 2 times the corrected prediction, "
        "correlation 1.000."
    )
    assert agreement_text([[0.5, None, 2.0]]) == "1 examples were left out and the model retrained."


def test_of_many_classes_the_most_confused_pairs_are_told(tmp_path: Path) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey", classes=25), MadeUp())
    found, _ = of(run)
    pairs = Counter((row["label"], row["predicted_label"]) for row in table(run, "test_examples"))
    wrong = {pair: count for pair, count in pairs.items() if pair[0] != pair[1]}
    expected = [[*pair, wrong[pair]] for pair in sorted(wrong, key=lambda pair: (-wrong[pair], pair))[:20]]
    assert (found["confusion"], found["helpers"]) == (None, None)
    assert found["confused"] == expected
