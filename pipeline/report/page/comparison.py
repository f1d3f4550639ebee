"""The page of a comparison of runs: how far they agree by method, and the inputs on which they differ most.

Axes: P positions of the page, each an example of a run's data.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from relatif.pipeline.report.comparing import Compared
from relatif.pipeline.report.page.compared_examples import Shelf, shelves_of, shown_examples
from relatif.pipeline.report.page.document import REPORT, SHARED, Template, document
from relatif.pipeline.storage.parquet import iter_batches
from relatif.schemas.config import flatten
from relatif.schemas.methods import METHODS, in_order
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K

COMPARISON = Template(
    scripts=(*SHARED.scripts, "compare_parts.js", "compare.js"), styles=(*REPORT.styles, "compare.css")
)

CASES = 12
"""Inputs that are shown for each pair of runs and method: those on which they differ most."""

RANKS = 8
"""Examples of an input that are shown of each run."""

BINS = 20
"""Of the rank correlation, from -1 to 1."""

COLOURS = {"influence": "if", "theta_relatif": "theta", "l_relatif": "ell", "nearest_neighbour": "nearest"}


@dataclass
class Positions:
    """Examples in the order in which the page first needed them: a shelf, which has the data, and a row of it."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    _places: dict[tuple[int, int], int] = field(default_factory=dict)

    def of(self, shelf: int, row: int) -> int:
        """Return the position of a row, which gets one if it has none yet."""
        place = self._places.setdefault((shelf, row), len(self.rows))
        if place == len(self.rows):
            self.rows.append((shelf, row))
        return place


def comparison_page(runs: Sequence[Compared], agreement: pa.Table) -> str:
    """Return the HTML of what ``compare`` found of runs; pictures and texts are those of data that can be read."""
    data = comparison_data(runs, agreement)
    return document(data, title="relatif: runs compared", template=COMPARISON)


def comparison_data(runs: Sequence[Compared], agreement: pa.Table) -> dict[str, Any]:
    """Return the page's JSON object. Raises DataError where tables do not belong together."""
    shelves = shelves_of(runs)
    train, test = Positions(), Positions()
    pairs = [
        (
            a,
            b,
            agreement.filter(
                pc.and_(pc.equal(agreement["run_a"], runs[a].name), pc.equal(agreement["run_b"], runs[b].name))
            ),
        )
        for a, b in combinations(range(len(runs)), 2)
    ]
    shown = [_pair(runs, shelves, (a, b), rows, (train, test)) for a, b, rows in pairs]
    examples = shown_examples(runs, shelves, train.rows, test.rows)
    methods = in_order(pc.unique(agreement["method"]).to_pylist())
    look = examples.pop("run")
    return {
        "version": 1,
        "run": look | {"title": "comparison", "methods": [_method(name) for name in methods]},
        **examples,
        "explanations": [],
        "story": None,
        "labels": None,
        "comparison": {
            "runs": [run.name for run in runs],
            "settings": differing_settings(runs),
            "pairs": shown,
            "unread": [shelf.unread for shelf in shelves if shelf.unread],
        },
    }


def _method(name: str) -> dict[str, str]:
    return {"name": name, "title": METHODS[name].title, "color": COLOURS.get(name, "other")}


def differing_settings(runs: Sequence[Compared]) -> list[list[str]]:
    """Return the settings in which runs differ, with each run's value as text; how they were computed is left out."""
    settings = [flatten(run.record.config) for run in runs]
    names = [name for name in settings[0] if not name.startswith("cluster.")]
    shown = [{name: "not set" if value is None else str(value) for name, value in each.items()} for each in settings]
    found = [[name, *(each.get(name, "not set") for each in shown)] for name in names]
    return [row for row in found if len(set(row[1:])) > 1]


def _pair(
    runs: Sequence[Compared],
    shelves: Sequence[Shelf],
    pair: tuple[int, int],
    rows: pa.Table,
    positions: tuple[Positions, Positions],
) -> dict[str, Any]:
    """Return two runs' agreement by method, and their lists for the inputs on which they differ most."""
    methods: list[dict[str, Any]] = []
    cases: list[dict[str, Any]] = []
    count, by = rows["top"][0].as_py(), rows["by"][0].as_py()
    for name in in_order(pc.unique(rows["method"]).to_pylist()):
        mine = rows.filter(pc.equal(rows["method"], name))
        methods.append(agreement_of(mine) | {"name": name})
        farthest = differing(mine).slice(0, CASES).to_pylist()
        wanted = [row["test"] for row in farthest]
        lists = [_lists(runs[each], name, wanted, by, min(count, RANKS)) for each in pair]
        cases += [_case(row, pair, shelves, [each[row["test"]] for each in lists], positions) for row in farthest]
    return {"a": pair[0], "b": pair[1], "top": count, "by": by, "methods": methods, "cases": cases}


def differing(rows: pa.Table) -> pa.Table:
    """Return the rows of inputs on which two runs differ, most first, as the printed comparison orders them."""
    known = pc.fill_null(rows["rank_correlation"], 1.0)
    some = rows.filter(pc.or_(pc.less(rows["overlap"], 1.0), pc.less(known, 1.0)))
    return some.sort_by([("overlap", "ascending"), ("rank_correlation", "ascending")])


def agreement_of(rows: pa.Table) -> dict[str, Any]:
    """Return means over the inputs of one method, and histograms of the examples in common and of the ranks."""
    count = rows["top"][0].as_py()
    common = np.rint(rows["overlap"].to_numpy() * count).astype(np.int64)
    ranks = rows["rank_correlation"].drop_null().to_numpy()
    bins, _ = np.histogram(ranks, bins=BINS, range=(-1.0, 1.0))
    return {
        "inputs": rows.num_rows,
        "overlap": float(pc.mean(rows["overlap"]).as_py()),
        "rank": float(ranks.mean()) if len(ranks) else None,
        "same": float(rows["same_first"].to_numpy().mean()),
        "common": np.bincount(common, minlength=count + 1).tolist(),
        "ranks": bins.tolist(),
    }


def _lists(run: Compared, method: str, wanted: Sequence[str], by: str, ranks: int) -> dict[str, list[tuple[int, int]]]:
    """Return, by the name of an input, its own row and the rows of its first examples: [(test, train), ...]."""
    index = _rows_of_inputs(run, wanted, by)
    tests = pa.array(sorted(index), pa.int64())
    found: dict[int, list[tuple[int, int]]] = {}
    for batch in iter_batches(run.tables, TOP_K.name, ["method", "test_index", "rank", "train_index"]):
        here = pc.and_(pc.equal(batch["method"], method), pc.less_equal(batch["rank"], ranks))
        for row in batch.filter(pc.and_(here, pc.is_in(batch["test_index"], value_set=tests))).to_pylist():
            found.setdefault(row["test_index"], []).append((row["rank"], row["train_index"]))
    return {index[test]: [(test, train) for _, train in sorted(each)] for test, each in found.items()}


def _rows_of_inputs(run: Compared, wanted: Sequence[str], by: str) -> dict[int, str]:
    """Return the names of inputs, places or identifiers, by their row in a run."""
    if by == "test_index":
        return {int(name): name for name in wanted}
    names = set(wanted)
    batches = iter_batches(run.tables, TEST_EXAMPLES.name, ["test_index", "test_id"])
    rows = (row for batch in batches for row in batch.to_pylist())
    return {row["test_index"]: row["test_id"] for row in rows if row["test_id"] in names}


def _case(
    row: Mapping[str, Any],
    pair: tuple[int, int],
    shelves: Sequence[Shelf],
    lists: Sequence[list[tuple[int, int]]],
    positions: tuple[Positions, Positions],
) -> dict[str, Any]:
    train, test = positions
    places = [shelves[each].place for each in pair]
    shown = [[train.of(place, number) for _, number in each] for place, each in zip(places, lists, strict=True)]
    inputs = [test.of(place, each[0][0]) for place, each in zip(places, lists, strict=True)]
    return {
        "method": row["method"],
        "name": row["test"],
        "test": inputs,
        "overlap": row["overlap"],
        "rank": row["rank_correlation"],
        "lists": shown,
    }
