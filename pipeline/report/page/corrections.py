"""What leaving a shown example out changes with its own curvature taken along, for as many pairs as are cheap.

Axes: M inputs of the page, U different training examples, C numbers among a model's outputs, P parameters.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.left_out_pairs import Removal, corrected_changes, without_correction
from relatif.pipeline.explaining.measured import load_measurement, measurement_name
from relatif.pipeline.explaining.query import read_part_rows
from relatif.pipeline.report.page.deepening import FORWARD_AND_BACKWARD, Size
from relatif.pipeline.report.page.lists import SHOWN, Explanation, Ranked
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples

OPERATIONS = 10_000_000_000
"""Corrected changes are computed for the first ranks of all lists, as many as take no more."""

EXAMPLES_BYTES = 2**30
"""Training examples of these pairs are held at once, as float64."""

RANKS = (SHOWN, 5, 3, 1)


def with_corrections(
    source: Source, places: NDArray[np.int64], every: Sequence[Explanation], engine: Engine, size: Size
) -> list[Explanation]:
    """Fill in the corrected changes of the first ranks, NaN beyond; none where another part was scored."""
    run = source.run
    count = ranks_within(every, size, outputs_of(run))
    if run.config.data.scored is not None or not count:
        return list(every)
    rows = np.unique(np.concatenate([side.train[:count] for each in every for side in _sides(each)]))
    if not len(rows):
        return list(every)
    trains = engine.training_examples(rows.tolist())
    if without_correction(engine.explainer, trains) is not None:
        return list(every)
    stored, targets = read_part_rows(run, "test", source.tables.test.index[places].tolist())
    tests = model_examples(engine.explainer.task, stored, targets, 0, engine.explainer.worker.device)
    pairs = {
        (number, int(row)): None
        for number, each in enumerate(every)
        for side in _sides(each)
        for row in side.train[:count]
    }
    where = [(number, int(np.searchsorted(rows, row))) for number, row in pairs]
    changes = corrected_changes(engine.explainer, tests, trains, where, _removal(run)).tolist()
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


def ranks_within(every: Sequence[Explanation], size: Size, outputs: int) -> int:
    """Return for how many ranks of every list the changes are cheap enough, 0 for none or no output."""
    if not outputs:
        return 0
    for count in RANKS:
        lists = [side.train[:count] for each in every for side in _sides(each)]
        different = len(np.unique(np.concatenate(lists))) if lists else 0
        passes = different * outputs + sum(map(len, lists))
        rotations = different * outputs * size.covered**2 if size.dense else 0
        held = different * size.numbers * 8
        if FORWARD_AND_BACKWARD * size.parameters * passes + rotations <= OPERATIONS and held <= EXAMPLES_BYTES:
            return count
    return 0


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
