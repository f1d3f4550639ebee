"""Tasks that take their time, so that a job can be stopped between two units: one retrains slowly, one reads slowly.

Time passes where it is needed: in the workers of a sandbox. The audit before a job's work, in the job's own process,
passes a model's examples dozens of times; and nobody stops the undisturbed runs of the tests' own Ray.
"""

import os
import time
from dataclasses import replace

from torch import Tensor

from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig
from tests.support.images import logistic, perceptron, scaled
from tests.support.processes import MARK, title

SECONDS = 0.5
SLOW = "tests.support.slow:slow"

READING_SECONDS = 0.25
SLOW_TO_READ = "tests.support.slow:slow_to_read"


def pause(seconds: float) -> None:
    """Wait in a worker of a Ray that runs in a sandbox; return at once everywhere else."""
    if MARK in os.environ and title(os.getpid()).startswith("ray::"):
        time.sleep(seconds)


class SlowRetraining(NewtonRetraining):
    """Newton's, after a pause."""

    def run(self, task: Task, data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Wait, then retrain."""
        pause(SECONDS)
        return super().run(task, data, config, prepared)


def slow() -> Task:
    """Return logistic regression on small images."""
    return replace(logistic(), retrain=SlowRetraining())


def slow_to_read() -> Task:
    """Return a small network, left as it was initialized, whose inputs take their time: a unit of scores does too."""
    return replace(perceptron(), model_inputs=read_slowly)


def read_slowly(inputs: Tensor) -> Tensor:
    """Wait, then return pixels from 0 to 1."""
    pause(READING_SECONDS)
    return scaled(inputs)
