"""The evaluations by name, and which of them the settings ask for."""

from collections.abc import Mapping

from relatif.pipeline.evaluations.class_agreement import CLASS_AGREEMENT_TESTS
from relatif.pipeline.evaluations.evaluation import Evaluation
from relatif.pipeline.evaluations.linear_datamodeling import LINEAR_DATAMODELING_SCORES
from relatif.pipeline.evaluations.mislabel_detection import MISLABEL_DETECTION_CURVES
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import ConfigurationError

EVALUATIONS: Mapping[str, Evaluation] = {
    each.name: each for each in (CLASS_AGREEMENT_TESTS, MISLABEL_DETECTION_CURVES, LINEAR_DATAMODELING_SCORES)
}
"""Evaluations by the names that ``evaluate.what`` takes, in the order in which they are made."""


def chosen(run: Run) -> list[Evaluation]:
    """Return the evaluations that ``evaluate.what`` names; by default all that need no training.

    Raises ConfigurationError for an unknown name, and for an evaluation that the run does not allow.
    """
    what = run.config.evaluate.what
    if what is None:
        return [each for each in EVALUATIONS.values() if not each.trains and each.obstacle(run) is None]
    for name in what:
        if name not in EVALUATIONS:
            raise ConfigurationError(
                f"expected evaluate.what among {', '.join(EVALUATIONS)}, found {name!r}; use one of these names"
            )
        obstacle = EVALUATIONS[name].obstacle(run)
        if obstacle is not None:
            raise ConfigurationError(f"evaluate.what = {name}: {obstacle}")
    return [each for name, each in EVALUATIONS.items() if name in what]


def left_out(run: Run) -> dict[str, str]:
    """Return why evaluations that are made by default are not made of this run, by name; none if the run names them."""
    if run.config.evaluate.what is not None:
        return {}
    reasons = {each.name: each.obstacle(run) for each in EVALUATIONS.values() if not each.trains}
    return {name: reason for name, reason in reasons.items() if reason is not None}
