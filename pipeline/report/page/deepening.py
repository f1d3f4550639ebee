"""What a run's tables don't hold of the page's inputs: who harms by every method, all scores, exact places and effects.

Axes: M inputs of the page, n training examples, K ranks, D numbers of an input, P parameters, U different examples.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline.explaining.engine import Engine, load_engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.found import Found
from relatif.pipeline.report.page.lists import SHOWN, Explanation, Histogram, Ranked, Sides, ranked
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from relatif.schemas.methods import METHODS

PASS_OPERATIONS = 20_000_000_000
"""A pass over the training set is made without stored gradients up to here: about half a minute on two cores."""

EXACT_OPERATIONS = 5_000_000_000
"""A pass is made beside kept gradients up to here: some seconds, for histograms that are not rounded."""

PLACE_OPERATIONS = 200_000_000_000
"""Places by input distance are counted up to here: n M D differences."""

FORWARD_AND_BACKWARD = 6
"""Operations of a parameter in a pass forward and back."""

QUERIES_AT_ONCE = 100
"""Inputs whose pairs are computed together: each pair's matrix product is with all of these."""

GRADIENT_STORE = "score.gradient_store = true"
"""The setting that keeps gradients in a run."""


@dataclass(frozen=True)
class Size:
    """How much work a run's page may be: counts that decide what is made, never the time that it takes.

    ``parameters`` are all of the model's, ``covered`` those whose gradients are scored.
    """

    examples: int
    parameters: int
    covered: int
    numbers: int
    dense: bool
    iterative: bool

    @property
    def pass_operations(self) -> int:
        """Operations of a pass over all examples."""
        rotation = self.covered**2 if self.dense else 0
        return self.examples * (FORWARD_AND_BACKWARD * self.parameters + rotation)

    @property
    def is_small(self) -> bool:
        """Whether a pass over the training set is made for the page."""
        return not self.iterative and self.pass_operations <= PASS_OPERATIONS

    @property
    def is_exact(self) -> bool:
        """Whether a pass over the training set is made although its gradients are kept."""
        return self.is_small and self.pass_operations <= EXACT_OPERATIONS

    def has_places(self, inputs: int) -> bool:
        """Whether places of examples are counted for so many inputs."""
        return self.examples * inputs * self.numbers <= PLACE_OPERATIONS


def size_of_run(run: Run) -> Size:
    """Return the counts of a run; coverage of an early one that is not told counts as too large."""
    data = run.store.find_bytes(run_directory.COVERAGE)
    entries = [] if data is None else json.loads(data)
    total, covered = (sum(e["count"] for e in entries if e["covered"] or every) for every in (True, False))
    curvature = run.config.curvature
    return Size(
        examples=run.scored_rows,
        parameters=total or PASS_OPERATIONS,
        covered=covered,
        numbers=run.dataset.input_numbers,
        dense=curvature.method == "exact",
        iterative=curvature.is_iterative,
    )


def engine_for(run: Run, size: Size) -> Engine | None:
    """Return the engine that deepens a run's page, None where the page is made from the tables alone.

    That is decided by counts: a pass over the training set is small, or gradients are stored. A pass of seconds is made
    even where they are, as histograms of rounded gradients are rounded, too. Raises as ``load_engine``.
    """
    if size.iterative or not (run.store.exists(run_directory.GRADIENTS) or size.is_small):
        return None
    return load_engine(run, use_kept=not size.is_exact)


def rounding_note(engine: Engine) -> str:
    """Return what is said of a page whose histograms are those of rounded gradients; nothing where they aren't."""
    if not rounds(engine):
        return ""
    dtype = engine.run.config.score.gradient_store_dtype
    return f"; its histograms and their counts are of gradients rounded to {dtype}, its lists are exact"


def rounds(engine: Engine) -> bool:
    """Return whether histograms are those of rounded gradients."""
    return engine.training.is_stored and engine.run.config.score.gradient_store_dtype == "bfloat16"


def deepened(
    source: Source, queries: ExplainedExamples, known: Sequence[Explanation], engine: Engine, size: Size
) -> list[Explanation]:
    """Return the explanations of the page's inputs with what the engine adds to them.

    Lists that help are those of the tables. Examples that harm are found for every method with a sign; histograms are
    over all n; effects of examples that only their distance chose are computed exactly.
    """
    signed = [
        method for method in source.methods if METHODS[method].numerator != "distance" and METHODS[method].sign > 0
    ]
    found = engine.best(queries, signed, k=1, lowest=SHOWN, histograms=True) if signed else None
    every: list[Explanation] = [
        {
            method: sides
            if found is None or method not in found.lowest
            else _with_harms(source, method, sides, found, number, rounded=rounds(engine))
            for method, sides in each.items()
        }
        for number, each in enumerate(known)
    ]
    every = _with_effects(source, every, queries, engine)
    return _with_places(every, queries, engine) if size.has_places(len(queries)) else every


def _with_harms(source: Source, method: str, sides: Sides, found: Found, number: int, *, rounded: bool) -> Sides:
    lowest = found.lowest[method]
    scores = lowest.scores[number].double().numpy()
    below = scores < 0
    rows = lowest.indices[number].numpy()[below]
    harms = ranked(method, source.tables.train, rows, scores[below], source.run.train_rows)
    return Sides(sides.helps, harms, Histogram.of(found, method, number, rounded=rounded))


def _with_effects(
    source: Source, every: list[Explanation], queries: ExplainedExamples, engine: Engine
) -> list[Explanation]:
    """Fill in the effects of lists whose scores tell none."""
    untold = [method for method in source.methods if any(each[method].helps.effect is None for each in every)]
    for method in untold:
        rows, counts = _padded([each[method].helps.train for each in every])
        influence = torch.cat(
            [
                engine.influence(
                    queries.rows(slice(start, start + QUERIES_AT_ONCE)), rows[start : start + QUERIES_AT_ONCE]
                )
                for start in range(0, len(rows), QUERIES_AT_ONCE)
            ]
        )
        effects = (influence / source.run.train_rows).numpy()
        every = [
            {**each, method: replace(each[method], helps=replace(each[method].helps, effect=effects[number, :count]))}
            for number, (each, count) in enumerate(zip(every, counts, strict=True))
        ]
    return every


def _with_places(every: list[Explanation], queries: ExplainedExamples, engine: Engine) -> list[Explanation]:
    """Fill in each listed example's place by input distance."""
    rows, counts = _padded([_all_rows(each) for each in every])
    places = engine.places(queries, rows).numpy()
    return [
        _placed(each, dict(zip(rows[number, :count].tolist(), places[number, :count].tolist(), strict=True)))
        for number, (each, count) in enumerate(zip(every, counts, strict=True))
    ]


def _all_rows(explanation: Explanation) -> NDArray[np.int64]:
    sides = [side for each in explanation.values() for side in (each.helps, each.harms) if side is not None]
    return np.unique(np.concatenate([side.train for side in sides]))


def _placed(explanation: Explanation, places: Mapping[int, int]) -> Explanation:
    def side(given: Ranked) -> Ranked:
        return replace(given, place=np.array([places[row] for row in given.train.tolist()], np.int64))

    return {
        method: replace(each, helps=side(each.helps), harms=None if each.harms is None else side(each.harms))
        for method, each in explanation.items()
    }


def _padded(lists: Sequence[NDArray[np.int64]]) -> tuple[Tensor, list[int]]:
    """Return lists of rows as one tensor, each filled up with its own first row, and their lengths."""
    width = max(1, *(len(each) for each in lists))
    rows = np.zeros((len(lists), width), np.int64)
    for number, each in enumerate(lists):
        if len(each):
            rows[number] = each[0]
            rows[number, : len(each)] = each
    return torch.from_numpy(rows), [len(each) for each in lists]
