"""What leaving a shown example out changes with its own curvature taken along, for as many pairs as are cheap.

Axes: M inputs of the page, U different training examples, C numbers among a model's outputs, P parameters.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.left_out_pairs import Removal, corrected_changes, without_correction
from relatif.pipeline.explaining.measured import load_measurement, measurement_name
from relatif.pipeline.explaining.query import read_part_rows
from relatif.pipeline.report.page.costs import FORWARD_CALLS, OPERATIONS, Costs, Shown, Told, first_within, silent
from relatif.pipeline.report.page.deepening import Size
from relatif.pipeline.report.page.lists import SHOWN, Explanation, Ranked
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples

EXAMPLES_BYTES = 2**30
"""Training examples of these pairs are held at once, as float64."""

RANKS = (SHOWN, 5, 3, 1)


TEST_CALLS = 3 * FORWARD_CALLS
"""Calls for one test input, beside one for each of its outputs: its pieces are measured, it and its examples passed."""


def with_corrections(
    source: Source,
    places: NDArray[np.int64],
    every: Sequence[Explanation],
    engine: Engine,
    shown: Shown,
    told: Told = silent,
) -> list[Explanation]:
    """Fill in the corrected changes of what is shown of all lists, NaN beyond; ``told`` hears how many pairs are done.

    For a run of which ``why_not`` says nothing.
    """
    first = every[: shown.inputs]
    lists = [(number, side.train[: shown.ranks]) for number, each in enumerate(first) for side in _sides(each)]
    if not lists:
        return list(every)
    pairs = dict.fromkeys((number, int(row)) for number, some in lists for row in some)
    rows = sorted({row for _, row in pairs})
    trains = engine.training_examples(rows)
    stored, targets = read_part_rows(source.run, "test", source.tables.test.index[places[: shown.inputs]].tolist())
    tests = model_examples(engine.explainer.task, stored, targets, 0, engine.explainer.worker.device)
    where = [(number, bisect_left(rows, row)) for number, row in pairs]
    changes = corrected_changes(
        engine.explainer, tests, trains, where, _removal(source.run), lambda done: told(done, len(where))
    ).tolist()
    found = dict(zip(pairs, changes, strict=True))

    def side(number: int, given: Ranked) -> Ranked:
        values = [found.get((number, row), np.nan) for row in given.train.tolist()]
        return replace(given, corrected=np.array(values, np.float64))

    return [
        {
            method: replace(
                sides,
                helps=side(number, sides.helps),
                harms=None if sides.harms is None else side(number, sides.harms),
            )
            for method, sides in each.items()
        }
        for number, each in enumerate(every)
    ]


def why_not(run: Run, engine: Engine) -> str | None:
    """Return why no effect on a run's page is corrected, None where they are."""
    if run.config.data.scored is not None:
        return "rows that are only scored can't be left out"
    if not outputs_of(run):
        return "the number of the model's outputs isn't known"
    if without_correction(engine.explainer, engine.training_examples([0])) is not None:
        return "an example has too many outputs"
    return None


def corrected_within(every: Sequence[Explanation], size: Size, outputs: int, costs: Costs) -> Shown:
    """Return for how many inputs and ranks the changes are cheap enough."""

    def operations(some: Sequence[Explanation], ranks: int) -> int:
        lists = [side.train[:ranks] for each in some for side in _sides(each)]
        different = len(np.unique(np.concatenate(lists))) if lists else 0
        if different * size.numbers * 8 > EXAMPLES_BYTES:
            return OPERATIONS + 1
        # An example's Jacobian is a pass for each output, and so is a test input's.
        jacobians = (different + len(some)) * outputs
        rotations = jacobians * size.covered**2 if size.dense else 0
        calls = len(some) * (outputs + TEST_CALLS)
        return costs.example * (jacobians + sum(map(len, lists))) + rotations + costs.call * calls

    return first_within(every, RANKS, operations)


def outputs_of(run: Run) -> int:
    """Return how many numbers the model gives for one example, by its classes or targets; of tokens 0: not known."""
    described = run.dataset.description.target
    if described is None:
        return max(1, len(run.dataset.class_names))
    return described.numbers if described.dtype == "float32" else 0


def _removal(run: Run) -> Removal:
    likelihood = run.task.likelihood
    measured = load_measurement(measurement_name(run.config.score, likelihood), likelihood)
    return Removal(run.config.score.explained_label, measured, run.train_rows)


def _sides(explanation: Explanation) -> list[Ranked]:
    return [side for each in explanation.values() for side in (each.helps, each.harms) if side is not None]
