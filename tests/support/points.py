"""A task on points of the plane, for data of ``tests.support.labelled.write_points``."""

from torch import Tensor, nn

from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.task import Task, cross_entropy


def points() -> Task:
    """Return a linear model of four classes."""
    return Task("points", 4, _model, _as_they_are, cross_entropy, train_by_minibatches)


def _model() -> nn.Module:
    return nn.Linear(2, 4)


def _as_they_are(inputs: Tensor) -> Tensor:
    return inputs
