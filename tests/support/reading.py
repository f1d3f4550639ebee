"""A task whose training reads a file beside the data, as one that starts from published weights does."""

import os
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig
from tests.support.images import logistic

WEIGHTS = "RELATIF_TEST_WEIGHTS"
"""Variable of the environment that names the file."""


def reading() -> Task:
    """Return logistic regression whose weights are one number from the file."""
    return replace(logistic(), train=from_file, files=(os.environ[WEIGHTS],))


def from_file(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    """Return weights that all are the number in the file."""
    value = float(Path(os.environ[WEIGHTS]).read_text())
    return {name: tensor.fill_(value) for name, tensor in task.build_model().state_dict().items()}
