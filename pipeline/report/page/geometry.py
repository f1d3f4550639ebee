"""Training examples by the projection and by the cosine of their gradients: why IF and RelatIF choose others (Fig. 2).

Axes: M inputs, R training examples that are drawn, K of them that a method names first.

Under ``<a, b> = a' (H + lambda I)^-1 b`` (section 3.3) the projection of an example's gradient on that of the input is
``I[t, i] / sqrt(I[t, t])``, by which influence ranks, and their cosine ``I[t, i] / sqrt(I[t, t] I[i, i])``, by which
l-RelatIF does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from relatif.pipeline.draws import sampled_rows
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.report.page.choosing import STORY_INPUTS, STORY_RANKS
from relatif.pipeline.report.page.columns import Positions, rounded_number
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.tables import EMPTY, Examples

DRAWN, SEED = 800, 0
"""Training examples that are drawn at random, beside those that a method names first."""

DIGITS = 4
"""Digits behind the point of a cosine: finer than a pixel."""

METHODS = ("influence", "l_relatif")

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Points:
    """Training ``rows`` [R] with their cosine and projection, [R]; NaN for a gradient of length 0."""

    rows: Ints
    cosine: Floats
    projection: Floats

    def of(self, rows: Ints) -> "Points":
        """Return some of the rows, which are among them."""
        places = np.searchsorted(self.rows, rows)
        return Points(rows, self.cosine[places], self.projection[places])

    def pairs(self) -> list[list[float | int | None]]:
        """Return ``[cosine, projection]`` of every example that has both."""
        known = np.isfinite(self.cosine) & np.isfinite(self.projection)
        found = zip(self.cosine[known].tolist(), self.projection[known].tolist(), strict=True)
        return [[round(cosine, DIGITS), rounded_number(projection)] for cosine, projection in found]


@dataclass(frozen=True, eq=False)
class Cloud:
    """What is drawn of one test row: examples drawn at random, and by method those that it names first."""

    test: int
    points: Points
    first: Mapping[str, Points]


@dataclass(frozen=True, eq=False)
class Geometry:
    """The panel: a cloud of each of a few inputs."""

    clouds: list[Cloud]

    def json(self, train: Positions, test: Positions) -> dict[str, Any]:
        """Return the panel as the page reads it; rows get positions."""
        return {
            "clouds": [
                {
                    "test": test.of([each.test])[0],
                    "points": each.points.pairs(),
                    "first": {
                        method: {"train": train.of(points.rows), "points": points.pairs()}
                        for method, points in each.first.items()
                    },
                }
                for each in self.clouds
            ]
        }


def geometry(source: Source, places: Ints, engine: Engine) -> Geometry | None:
    """Return the clouds of the story's inputs, else of the first of ``places``; None where a method was not scored.

    Influence is computed exactly, pair by pair.
    """
    tables = source.tables
    known = "self_influence" in tables.train.numbers and "self_influence" in tables.test.numbers
    if not known or not set(METHODS) <= set(tables.methods):
        return None
    chosen = places[:STORY_INPUTS] if source.story is None else source.story.inputs
    drawn = tables.train.index[sampled_rows(len(tables.train), DRAWN, SEED)]
    first = {method: [_first(source, method, int(place)) for place in chosen] for method in METHODS}
    rows = np.unique(np.concatenate([drawn, *(each for lists in first.values() for each in lists)]))
    tests = tables.test.index[chosen]
    influence = engine.influence(
        engine.rows("test", tests.tolist()), torch.from_numpy(rows).expand(len(chosen), -1)
    ).numpy()
    clouds = []
    for number, place in enumerate(chosen.tolist()):
        points = placed(influence[number], rows, tables.train, float(tables.test.numbers["self_influence"][place]))
        shown = {method: points.of(lists[number]) for method, lists in first.items()}
        clouds.append(Cloud(int(tests[number]), points.of(drawn), shown))
    return Geometry(clouds)


def _first(source: Source, method: str, place: int) -> Ints:
    rows = source.tables.lists.train[method][place, :STORY_RANKS].astype(np.int64)
    return rows[rows != EMPTY]


def placed(influence: Floats, rows: Ints, train: Examples, own: float) -> Points:
    """Return training rows by cosine and projection; ``influence`` [R] is theirs on an input whose own is ``own``."""
    of_train = np.asarray(train.numbers["self_influence"][train.places(rows)], np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        projection = influence / np.sqrt(own)
        cosine = projection / np.sqrt(of_train)
    # Columns of tables are float32: a cosine of 1 may come out a little larger.
    return Points(rows, np.clip(cosine, -1, 1), projection)
