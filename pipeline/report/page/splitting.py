"""Which layers, and which tokens of a training text, the scores on a page come from, for as many ranks as are cheap.

Axes: M inputs of the page, K ranks of a list, N training examples of one input.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.media import token_texts
from relatif.pipeline.explaining.one_query import influence_parts
from relatif.pipeline.explaining.parts import Parts, token_count
from relatif.pipeline.explaining.shown_query import split_of
from relatif.pipeline.report.page.columns import rounded, rounded_number
from relatif.pipeline.report.page.costs import FORWARD_CALLS, Costs, Shown, Told, first_within, silent
from relatif.pipeline.report.page.lists import Explanation, Ranked, Sides, denominators
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.runs.run import Run
from relatif.schemas.methods import METHODS

RANKS = (3, 1)
"""How many ranks of each list that may be: a card further down says no more than one of these."""


CALLS = 2 * FORWARD_CALLS + 1
"""Calls for one input's training examples: their pieces are measured, and they are passed forward and back."""


def with_parts(
    source: Source,
    queries: ExplainedExamples,
    every: Sequence[Explanation],
    engine: Engine,
    shown: Shown,
    told: Told = silent,
) -> list[Explanation]:
    """Split the scores of what is shown of all lists by layer, and of texts by token; ``told`` hears of inputs done."""
    if not shown.ranks:
        return list(every)
    tokens = token_count(source.run.dataset.description)
    rows = [_first(each, shown.ranks) for each in every[: shown.inputs]]
    pairs = [(number, row) for number, some in enumerate(rows) for row in some]
    found: dict[int, Parts] = {}
    for number, parts in influence_parts(engine, queries, pairs, tokens=tokens):
        found[number] = parts
        told(len(found), len(rows))
    texts = {} if tokens is None else _texts(source, engine, sorted({row for some in rows for row in some}))
    return [
        {
            method: _split(source, method, sides, shown.ranks, _Known(rows[number], found[number], texts))
            if _is_split(method) and number in found
            else sides
            for method, sides in each.items()
        }
        for number, each in enumerate(every)
    ]


def has_parts(run: Run, engine: Engine) -> bool:
    """Return whether a score has more than one part."""
    return token_count(run.dataset.description) is not None or len(engine.explainer.subject.coverage.layers) > 1


def split_within(every: Sequence[Explanation], costs: Costs) -> Shown:
    """Return for how many inputs and ranks scores are split: each pair takes a pass."""
    return first_within(
        every,
        RANKS,
        lambda some, ranks: (
            costs.example * sum(len(_first(each, ranks)) for each in some) + costs.call * CALLS * len(some)
        ),
    )


@dataclass(frozen=True, eq=False)
class _Known:
    """The parts of one input's influence, in the order of training rows, and the texts of its examples' tokens."""

    rows: Sequence[int]
    parts: Parts
    texts: Mapping[int, Sequence[str]]


def _split(source: Source, method: str, sides: Sides, count: int, known: _Known) -> Sides:
    def side(given: Ranked) -> Ranked:
        rows = given.train[:count]
        below = denominators(method, source.tables.train, rows)
        if below is None or not len(rows):
            return given
        return replace(given, more={**given.more, **_json(known, rows.tolist(), METHODS[method].sign / below)})

    return replace(sides, helps=side(sides.helps), harms=None if sides.harms is None else side(sides.harms))


def _json(known: _Known, rows: Sequence[int], factors: NDArray[np.float64]) -> dict[str, object]:
    """Return the parts of the scores of some rows, as the page reads them."""
    parts = known.parts.rows([known.rows.index(row) for row in rows])
    found: dict[str, object] = {}
    if len(parts.layers) > 1:
        by_layer = np.array([values.tolist() for values in parts.layers.values()]).T * factors[:, None]
        found["by_layer"] = {"names": list(parts.layers), "shares": [rounded(row) for row in by_layer]}
    if parts.tokens is not None:
        splits = [split_of(parts, place, known.texts[row]) for place, row in enumerate(rows)]
        found["tokens"] = [
            [[text, rounded_number(part * factor)] for text, part in each.parts]
            for each, factor in zip(splits, factors.tolist(), strict=True)
        ]
        found["rest"] = rounded(np.array([each.rest or 0.0 for each in splits]) * factors)
    return found


def _texts(source: Source, engine: Engine, rows: Sequence[int]) -> dict[int, list[str]]:
    stored, _ = engine.training.examples(rows)
    return dict(zip(rows, token_texts(source.run, stored), strict=True))


def _is_split(method: str) -> bool:
    return METHODS[method].additive


def _first(explanation: Explanation, count: int) -> list[int]:
    """Return the rows of the first ranks whose scores are split, each once, in rising order."""
    sides = [
        side
        for method, each in explanation.items()
        if _is_split(method)
        for side in (each.helps, each.harms)
        if side is not None
    ]
    return sorted({int(row) for side in sides for row in side.train[:count]})
