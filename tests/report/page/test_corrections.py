"""For how many ranks leaving an example out is computed with its own curvature, by counts alone."""

from pathlib import Path

import numpy as np

from relatif.pipeline.report.page.corrections import TEST_CALLS, corrected_within, outputs_of
from relatif.pipeline.report.page.costs import OPERATIONS, Costs, Shown
from relatif.pipeline.report.page.deepening import Size
from relatif.pipeline.report.page.lists import Ranked, Sides
from tests.support.finished import NUMBERS, SEVERAL, MadeUp, finished_run
from tests.support.page_inputs import write_kind, write_targets

OUTPUTS = 4


SMALL = Size(1, 1, 1, 1, dense=False, iterative=False)


def test_as_many_ranks_are_corrected_as_are_cheap() -> None:
    # Two inputs with ten examples each that help, and the same that harm: 10 different ones, 40 pairs.
    listed = Ranked(np.arange(10), np.ones(10))
    every = [{"influence": Sides(listed, listed)}] * 2
    for ranks in (10, 5, 3, 1):
        passes = (ranks + 2) * OUTPUTS + 4 * ranks
        assert corrected_within(every, SMALL, OUTPUTS, Costs(OPERATIONS // passes, 0)) == Shown(2, ranks)
    # The first input alone: one example, its Jacobian and the input's, two pairs.
    assert corrected_within(every, SMALL, OUTPUTS, Costs(OPERATIONS // (2 * OUTPUTS + 2), 0)) == Shown(1, 1)
    assert corrected_within(every, SMALL, OUTPUTS, Costs(OPERATIONS, 0)) == Shown(0, 0)
    # Calls of a model cost whatever its size.
    calls = 2 * (OUTPUTS + TEST_CALLS)
    assert corrected_within(every, SMALL, OUTPUTS, Costs(0, OPERATIONS // calls)) == Shown(2, 10)
    assert corrected_within(every, SMALL, OUTPUTS, Costs(0, OPERATIONS // calls + 1)) == Shown(1, 10)
    # Exact curvature rotates every gradient; large inputs are not held.
    free = Costs(0, 0)
    assert corrected_within(every, Size(1, 1, 10**6, 1, dense=True, iterative=False), OUTPUTS, free) == Shown(0, 0)
    assert corrected_within(every, Size(1, 1, 1, 10**8, dense=False, iterative=False), OUTPUTS, free) == Shown(2, 1)
    assert corrected_within(every, Size(1, 1, 1, 10**9, dense=False, iterative=False), OUTPUTS, free) == Shown(0, 0)


def test_outputs_are_counted_by_classes_or_targets(tmp_path: Path) -> None:
    classes = finished_run(tmp_path / "a", write_kind(tmp_path / "a_data", "grey"), MadeUp())
    assert outputs_of(classes) == 3
    for kind, count in ((NUMBERS, 1), (SEVERAL, 3)):
        run = finished_run(tmp_path / kind, write_targets(tmp_path / f"{kind}_data", count), MadeUp(kind))
        assert outputs_of(run) == count
