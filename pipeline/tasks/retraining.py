"""Retraining from scratch, and leave-one-out as a training problem: which objective is minimized."""

from dataclasses import dataclass

from torch import Tensor

from relatif.pipeline.tasks.task import Task, TrainingSet, recipe_of
from relatif.schemas.config import TrainConfig


@dataclass(frozen=True)
class FromScratch:
    """Trains anew by the task's own recipe, from the same seed: for any model, at the full cost of training."""

    def prepare(
        self, task: Task, data: TrainingSet, config: TrainConfig, trained: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return nothing: there is nothing to start from."""
        return {}

    def run(self, task: Task, data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state that the task's recipe reaches on ``data``."""
        return recipe_of(task)(task, data, config)


def leave_one_out_config(config: TrainConfig, rows: int) -> TrainConfig:
    """Return the settings with which a recipe on n - 1 of ``rows`` = n examples minimizes leave-one-out's objective.

    Eq. 5 leaves out an example of weight 1/n by epsilon = -1/n and changes nothing else. A recipe minimizes the mean
    over the n - 1 that it gets, so the others' weights and the weight decay rise by n / (n - 1) alike:

        1 / (n - 1) sum_{j != i} loss_j + d' / 2 ||theta||^2
            = n / (n - 1) (1 / n sum_{j != i} loss_j + d / 2 ||theta||^2)

    with ``d' = d n / (n - 1)``, whose optimum is that of Eq. 5.
    """
    return config.model_copy(update={"weight_decay": config.weight_decay * rows / (rows - 1)})
