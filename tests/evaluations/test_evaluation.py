"""The list of evaluations is that of the configuration."""

from typing import get_args

from relatif.pipeline.evaluations.evaluate import EVALUATIONS
from relatif.schemas.config import EvaluationName


def test_evaluations_are_those_that_the_configuration_takes() -> None:
    assert tuple(EVALUATIONS) == get_args(EvaluationName)
    assert all(evaluation.name == name for name, evaluation in EVALUATIONS.items())
