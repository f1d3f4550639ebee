"""A task whose retraining takes its time, so that a job can be killed between two retrainings."""

import time
from dataclasses import replace

from torch import Tensor

from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig
from tests.support.images import logistic

SECONDS = 0.5
SLOW = "tests.support.slow:slow"


class SlowRetraining(NewtonRetraining):
    """Newton's, after a pause."""

    def run(self, task: Task, data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Wait, then retrain."""
        time.sleep(SECONDS)
        return super().run(task, data, config, prepared)


def slow() -> Task:
    """Return logistic regression on small images."""
    return replace(logistic(), retrain=SlowRetraining())
