"""Which class of inputs a frequent training example explains, and how large a share of that class.

Axes: M explained inputs, K ranks, R training rows, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.counting import Counts, Listed
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.tables import EMPTY
from relatif.pipeline.report.page.whole import few_classes

OFTEN = 20
"""An example is frequent that stands in so many times as many lists as the average one, and in at least two."""


def served(source: Source, train: Positions) -> dict[str, Any] | None:
    """Return how many inputs were explained as each class, and by method the class that a frequent example serves most.

    That is ``{position: [class, inputs of it]}``. None where there are no classes, or many.
    """
    tables, known = source.tables, few_classes(source.run, source.tables)
    if known is None:
        return None
    explained, classes = known[0], len(source.run.dataset.class_names)
    least = max(2.0, OFTEN * tables.lists.ranks * len(tables.test) / len(tables.train))
    by = {}
    for method in source.methods:
        fan = source.counts.fan[method][tables.train.places(train.array)]
        often = np.flatnonzero(fan >= least)
        counts = class_of_lists(tables.lists.train[method], explained, train.array[often], classes)
        most = counts.argmax(axis=1)
        by[method] = {
            str(position): [each, int(row[each])]
            for position, each, row in zip(often.tolist(), most.tolist(), counts, strict=True)
        }
    inputs = np.bincount(explained[(explained >= 0) & (explained < classes)], minlength=classes)
    return {"inputs": inputs.tolist(), "by": by}


def class_of_lists(lists: Listed, explained: NDArray[np.int32], rows: Counts, classes: int) -> Counts:
    """Return of which class the inputs are whose lists [M, K] hold each of some training rows [R]: counts [R, C]."""
    order = np.argsort(rows)
    found = np.searchsorted(rows[order], lists).clip(max=max(len(rows) - 1, 0))
    there = (lists != EMPTY) & (rows[order][found] == lists) if len(rows) else np.zeros(lists.shape, np.bool_)
    tests, ranks = np.nonzero(there & (explained >= 0)[:, None] & (explained < classes)[:, None])
    places = order[found[tests, ranks]] if len(rows) else np.zeros(0, np.int64)
    counts = np.bincount(places * classes + explained[tests], minlength=len(rows) * classes)
    return counts.reshape(len(rows), classes)
