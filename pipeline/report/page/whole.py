"""The whole of a run on its page: how many examples reach many inputs, Table 1, overlap, confusion, who helps whom.

Axes: M explained inputs, K ranks, N training examples, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from relatif.pipeline.datasets.labels import PUBLISHED
from relatif.pipeline.influence.correlation import pearson, slope
from relatif.pipeline.report.page.columns import Positions, rounded_number
from relatif.pipeline.report.page.counting import Reach, class_counts, fan_out, helper_classes, reach, typical
from relatif.pipeline.report.page.tables import PageTables
from relatif.pipeline.report.paper import EXPERIMENT_OF_TASK, TABLE_1, TEST_COUNT
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import iter_batches, read_table
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.tables import INFLUENCE_SETS, LEAVE_ONE_OUT, OVERLAP, SCORES

DOMINATING, MOST_CLASSES, CONFUSED = 36, 20, 20
HALF, FIFTH = 0.5, 0.2

PAIRS = {"method_a": "a", "method_b": "b", "k": "k", "overlap": "overlap"}
"""The page's names of the columns of overlaps."""

LARGEST_MATRIX = 2**24
"""Class by class numbers that are counted: so many classes squared."""


@dataclass(frozen=True, eq=False)
class Counted:
    """What all inputs' lists say together, by method; ``fan`` of every method that was scored."""

    fan: Mapping[str, NDArray[np.int64]]
    reach: Mapping[str, Reach]
    typical: Mapping[str, int]

    def dominating(self, method: str) -> NDArray[np.int64]:
        """Return the training rows that stand in most lists, the most first, of equal ones the first."""
        fan = self.fan[method]
        listed = np.flatnonzero(fan)
        return listed[np.lexsort((listed, -fan[listed]))[:DOMINATING]]


def counted(tables: PageTables, methods: Sequence[str]) -> Counted:
    """Count what the lists of ``methods`` have in common."""
    lists = tables.lists.train
    # Rows of the scored examples are their places: tables hold each from 0 on.
    fan = {method: fan_out(lists[method], len(tables.train)) for method in tables.methods}
    return Counted(
        fan,
        {method: reach(lists[method]) for method in methods},
        {method: typical(lists[method], fan[method]) for method in methods},
    )


def whole(run: Run, tables: PageTables, counts: Counted, positions: Positions) -> dict[str, Any]:
    """Return the part ``whole`` of the page; figures are added by others."""
    store = run.store.child(run_directory.TABLES)
    classes, methods = len(run.dataset.class_names), tuple(counts.reach)
    return {
        "reach": _reach(counts),
        "dominating": {method: positions.of(counts.dominating(method)) for method in counts.reach},
        "dominating_wrong": _dominating_wrong(tables, counts),
        "table1": _table1(run, store, methods),
        "overlap": [row for row in _rows(store, OVERLAP.name, PAIRS) if {row["a"], row["b"]} <= set(methods)],
        **_confusion(tables, classes),
        "helpers": _helpers(run, tables, methods),
        "influence_by_class": influence_by_class(run, tables, store),
        "leave_one_out": leave_one_out(run),
        "figures": [],
    }


def _reach(counts: Counted) -> dict[str, Any]:
    found = counts.reach.items()
    return {
        "curves": {method: each.curve() for method, each in found},
        "half": {method: each.needed(HALF) for method, each in found},
        "fifth": {method: each.needed(FIFTH) for method, each in found},
    }


def _dominating_wrong(tables: PageTables, counts: Counted) -> dict[str, int] | None:
    if "predicted_label" not in tables.train.classes:
        return None
    wrong = tables.train.wrong()
    return {
        method: int(wrong[each.examples[: each.needed(HALF) or len(each.examples)]].sum())
        for method, each in counts.reach.items()
    }


def paper_of(run: Run) -> str | None:
    """Return the paper's name of the experiment that a run repeats, None where it is another."""
    return EXPERIMENT_OF_TASK.get(run.config.task) if run.dataset.labelling == PUBLISHED else None


def _table1(run: Run, store: Store, methods: Sequence[str]) -> list[dict[str, Any]]:
    figures = TABLE_1.get(paper_of(run) or "", {})
    rows = []
    for row in _rows(store, INFLUENCE_SETS.name):
        if row["method"] not in methods:
            continue
        paper = figures.get((row["method"], row["k"]))
        rows.append(
            {
                "method": row["method"],
                "k": row["k"],
                "cardinality": row["cardinality"],
                "ratio": row["cardinality_ratio"],
                "probability_mean": row["probability_mean"],
                "probability_std": row["probability_std"],
                # Sets of other numbers of inputs don't compare.
                "paper_cardinality": paper.cardinality if paper and row["test_count"] == TEST_COUNT else None,
                "paper_probability": paper and paper.probability_mean,
            }
        )
    return rows


def _rows(store: Store, table: str, names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Return a table's rows with numbers rounded, and its columns renamed; none where it was not written."""
    if not store.list(table, ".parquet"):
        return []
    found = read_table(store, table).to_pylist()
    short = [{key: rounded_number(v) if isinstance(v, float) else v for key, v in row.items()} for row in found]
    return short if names is None else [{new: row[old] for old, new in names.items()} for row in short]


def _confusion(tables: PageTables, classes: int) -> dict[str, Any]:
    label, predicted = (tables.test.classes.get(name) for name in ("label", "predicted_label"))
    if label is None or predicted is None or not 0 < classes**2 <= LARGEST_MATRIX:
        return {"confusion": None}
    counts = class_counts(label, predicted, classes)
    if classes <= MOST_CLASSES:
        return {"confusion": counts.tolist()}
    np.fill_diagonal(counts, 0)
    most = np.argsort(-counts, axis=None, kind="stable")[:CONFUSED]
    pairs = [(int(cell) // classes, int(cell) % classes) for cell in most]
    return {"confusion": None, "confused": [[a, b, int(counts[a, b])] for a, b in pairs if counts[a, b]]}


def _helpers(run: Run, tables: PageTables, methods: Sequence[str]) -> dict[str, Any] | None:
    known = few_classes(run, tables)
    if known is None:
        return None
    explained, labels = known
    classes = len(run.dataset.class_names)
    lists = tables.lists.train
    return {method: helper_classes(lists[method], explained, labels, classes).tolist() for method in methods}


def influence_by_class(run: Run, tables: PageTables, store: Store) -> dict[str, Any] | None:
    """Return influence / n summed by class, from the dense scores where they were written; else None."""
    known = few_classes(run, tables)
    if known is None or not store.list(SCORES.name, ".parquet"):
        return None
    explained, labels = known
    classes = len(run.dataset.class_names)
    sums = np.zeros((classes, classes))
    for batch in iter_batches(store, SCORES.name, None, 16):
        for test, start, values in zip(*map(_unboxed, batch.columns), strict=True):
            row = int(explained[tables.test.places(np.array([test]))[0]])
            own = labels[start : start + len(values)]
            told = (own >= 0) & (own < classes)
            sums[row] += np.bincount(own[told], weights=np.asarray(values)[told], minlength=classes)
    return summed(run, sums / run.train_rows, "all")


def few_classes(run: Run, tables: PageTables) -> tuple[NDArray[np.int32], NDArray[np.int32]] | None:
    """Return explained classes [M] and labels [N] by place; None where there are no classes, or many."""
    explained, labels = tables.test.classes.get("explained_label"), tables.train.classes.get("label")
    few = 0 < len(run.dataset.class_names) <= MOST_CLASSES
    return None if explained is None or labels is None or not few else (explained, labels)


def summed(run: Run, values: NDArray[np.float64], inputs: str) -> dict[str, Any]:
    """Return a matrix of summed effects, [C, C]; ``inputs`` are those that it is over: ``all`` or ``page``."""
    rows = [[rounded_number(value) for value in row] for row in values.tolist()]
    return {"classes": list(run.dataset.class_names), "values": rows, "inputs": inputs}


def _unboxed(column: pa.Array) -> list[Any]:
    if pa.types.is_list(column.type):
        ends = np.asarray(column.offsets)
        flat = column.values.to_numpy()
        return [flat[start:end] for start, end in pairwise(ends)]
    return list(column.to_pylist())


def leave_one_out(run: Run) -> dict[str, Any] | None:
    """Return the pairs whose example was left out: predicted, corrected and true change; None where none was."""
    if not run.store.list(run_directory.table(LEAVE_ONE_OUT.name), ".parquet"):
        return None
    rows = read_table(run.store, run_directory.table(LEAVE_ONE_OUT.name)).to_pylist()
    pairs = {(row["test_index"], row["train_index"]): row for row in rows}
    points = [
        [row["predicted_test_loss_change"], row.get("corrected_test_loss_change"), row["test_loss_change"]]
        for row in pairs.values()
    ]
    return {
        "points": [[rounded_number(value) for value in point] for point in points],
        "text": agreement_text(points),
    }


def agreement_text(points: Sequence[Sequence[float | None]]) -> str:
    """Return how far predicted changes agree with those of retrained models, corrected ones where there are any."""
    place = 1 if sum(point[1] is not None for point in points) > len(points) / 2 else 0
    pairs = np.array([[point[place], point[2]] for point in points if point[place] is not None], np.float64)
    text = f"{len(points):,} examples were left out and the model retrained"
    if len(pairs) < 3 or not pairs.std(axis=0).all():
        return f"{text}."
    predicted, true = torch.from_numpy(pairs).unbind(dim=1)
    which = "corrected prediction" if place else "prediction to first order"
    return (
        f"{text}: the true change is {slope(predicted, true):.3g} times the {which}, correlation "
        f"{float(pearson(predicted, true)):.3f}."
    )
