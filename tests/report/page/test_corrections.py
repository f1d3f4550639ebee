"""For how many ranks leaving an example out is computed with its own curvature, by counts alone."""

from pathlib import Path

import numpy as np

from relatif.pipeline.report.page.corrections import OPERATIONS, outputs_of, ranks_within
from relatif.pipeline.report.page.deepening import FORWARD_AND_BACKWARD, Size
from relatif.pipeline.report.page.lists import Ranked, Sides
from tests.support.finished import NUMBERS, SEVERAL, MadeUp, finished_run
from tests.support.page_inputs import write_kind, write_targets

OUTPUTS = 4


def test_as_many_ranks_are_corrected_as_are_cheap() -> None:
    # Two inputs with ten examples each that help, and the same that harm: 10 different ones, 40 pairs.
    listed = Ranked(np.arange(10), np.ones(10))
    every = [{"influence": Sides(listed, listed)}] * 2
    for ranks in (10, 5, 3, 1):
        passes = ranks * OUTPUTS + 4 * ranks
        parameters = OPERATIONS // (FORWARD_AND_BACKWARD * passes)
        assert ranks_within(every, Size(1, parameters, 1, 1, dense=False, iterative=False), OUTPUTS) == ranks
    assert ranks_within(every, Size(1, OPERATIONS, 1, 1, dense=False, iterative=False), OUTPUTS) == 0
    assert ranks_within(every, Size(1, 1, 1, 1, dense=False, iterative=False), 0) == 0
    # Exact curvature rotates every gradient; large inputs are not held.
    assert ranks_within(every, Size(1, 1, 10**5, 1, dense=True, iterative=False), OUTPUTS) == 0
    assert ranks_within(every, Size(1, 1, 1, 10**8, dense=False, iterative=False), OUTPUTS) == 1
    assert ranks_within(every, Size(1, 1, 1, 10**9, dense=False, iterative=False), OUTPUTS) == 0


def test_outputs_are_counted_by_classes_or_targets(tmp_path: Path) -> None:
    classes = finished_run(tmp_path / "a", write_kind(tmp_path / "a_data", "grey"), MadeUp())
    assert outputs_of(classes) == 3
    for kind, count in ((NUMBERS, 1), (SEVERAL, 3)):
        run = finished_run(tmp_path / kind, write_targets(tmp_path / f"{kind}_data", count), MadeUp(kind))
        assert outputs_of(run) == count
