"""A task that takes its time in every stage of a job, so that a machine can be lost while one is at work."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from relatif.pipeline.tasks.logistic import LogisticRegression, train_to_optimum
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig
from tests.support.images import CLASSES, SIDE, logistic
from tests.support.slow import SlowRetraining, pause

UNHURRIED = "tests.support.unhurried:unhurried"
TRAINING_SECONDS, FORWARD_SECONDS = 4.0, 0.2


class Unhurried(LogisticRegression):
    """Waits before each forward pass: factors and scores take theirs by it, training does not."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        pause(FORWARD_SECONDS)
        return super().forward(inputs)


def unhurried() -> Task:
    """Return logistic regression on small images."""
    build = partial(Unhurried, SIDE * SIDE, CLASSES)
    return replace(logistic(), build_model=build, train=_train, retrain=SlowRetraining())


def _train(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    pause(TRAINING_SECONDS)
    return train_to_optimum(task, data, config)
