"""What explains one input: training examples that help and that harm, with their effects.

Axes: K ranks, best first.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.explaining.found import Found
from relatif.pipeline.report.page.tables import EMPTY, Examples, PageTables
from relatif.schemas.methods import INFLUENCE, METHODS

SHOWN = 10
"""Ranks of a list that the page shows."""

BINS = 64

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Ranked:
    """One side of an explanation, best first; all arrays are [K].

    ``train`` are rows of the scored examples. ``effect`` is influence / n, positive where leaving the example out would
    raise what is measured; ``corrected`` the same with the example's own curvature, NaN where there is none; ``place``
    the example's rank by input distance, 1 for the nearest.
    """

    train: Ints
    score: Floats
    effect: Floats | None = None
    corrected: Floats | None = None
    place: Ints | None = None
    more: Mapping[str, object] = field(default_factory=dict)
    """Further parts of the page's JSON, as they are."""


@dataclass(frozen=True, eq=False)
class Histogram:
    """Scores of one input over all training examples: ``counts`` [64] from ``low`` to ``high``, and of either sign.

    ``rounded`` says that counts are those of rounded gradients; the ends are exact all the same.
    """

    low: float
    high: float
    counts: Ints
    helping: int
    harming: int
    rounded: bool = False

    @staticmethod
    def of(found: Found, method: str, query: int, *, rounded: bool) -> "Histogram":
        """Return one query's histogram by a method of which best and lowest were asked for: these are its ends."""
        bars = found.histograms[method]
        return Histogram(
            float(found.lowest[method].scores[query, 0]),
            float(found.best[method].scores[query, 0]),
            bars.counts[query].numpy(),
            int(bars.above[query]),
            int(bars.below[query]),
            rounded,
        )


@dataclass(frozen=True, eq=False)
class Sides:
    """What one method says of one input."""

    helps: Ranked
    harms: Ranked | None = None
    histogram: Histogram | None = None


Explanation = Mapping[str, Sides]
"""By method."""


def denominators(method: str, train: Examples, rows: Ints) -> Floats | None:
    """Return by what a method divides the influence of training rows, [K]; None where its scores are no influence."""
    asked = METHODS[method]
    if asked.numerator != INFLUENCE:
        return None
    if asked.denominator is None:
        return np.ones(len(rows))
    if asked.denominator not in train.numbers:
        return None
    values = np.asarray(train.numbers[asked.denominator][train.places(rows)], np.float64)
    return np.sqrt(values) if asked.root else values


def ranked(method: str, train: Examples, rows: Ints, score: Floats, count: int) -> Ranked:
    """Return one side as tables tell it; ``count`` is the number of training examples n that effects are divided by.

    Distances are shown as such: the method's score is their negative.
    """
    below = denominators(method, train, rows)
    effect = None if below is None else METHODS[method].sign * score * below / count
    shown = -score if METHODS[method].numerator == "distance" else score
    return Ranked(rows, shown, effect)


def explanations(
    tables: PageTables, places: Ints, scores: Mapping[str, Floats], methods: Sequence[str], count: int
) -> list[Explanation]:
    """Return what the tables say of inputs by place, by each of ``methods``; scores [places, K] are in their order.

    Influence has the table of negative influence as its harms, where that was scored.
    """
    opposite = "negative_influence" if "negative_influence" in tables.methods else None
    found: list[Explanation] = []
    for number, place in enumerate(places):

        def side(method: str, number: int = number, place: int = int(place)) -> Ranked:
            rows = tables.lists.train[method][place, :SHOWN].astype(np.int64)
            rows = rows[rows != EMPTY]
            return ranked(method, tables.train, rows, scores[method][number, : len(rows)], count)

        found.append(
            {
                method: Sides(side(method), _turned(side(opposite)) if method == "influence" and opposite else None)
                for method in methods
            }
        )
    return found


def _turned(side: Ranked) -> Ranked:
    """Return harms with the score of plain influence, which is negative: their table holds it with its sign turned."""
    return Ranked(side.train, -side.score, side.effect)
