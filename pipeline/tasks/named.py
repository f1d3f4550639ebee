"""A task that names a model alone: what its outputs mean is told by the settings of ``model`` and by the data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.model_config import ModelConfig

LIKELIHOODS: Mapping[str, Callable[[int, ModelConfig], Likelihood]] = {
    "categorical": lambda count, _: Categorical(count),
}
"""By the names that ``model.likelihood`` takes: from the number of outputs and the settings."""

OF_CLASSES = ("categorical", "dense_categorical")
"""Likelihoods whose number of outputs the data's classes tell."""


@dataclass(frozen=True)
class NamedModel:
    """The settings of ``model``, and the number of classes of the data, None where it has none."""

    config: ModelConfig = field(default_factory=ModelConfig)
    class_count: int | None = None

    def likelihood(self, task: str) -> Likelihood:
        """Return the likelihood of a task that is a model alone.

        Raises ConfigurationError where neither the settings nor the data tell it, or its number of outputs.
        """
        name = self.config.likelihood or ("categorical" if self.class_count is not None else None)
        if name is None:
            raise ConfigurationError(
                f"expected model.likelihood for task {task!r}, which returns a model alone, and data without classes, "
                f"found none; set it to one of {', '.join(LIKELIHOODS)}, or return a Task"
            )
        count = self.config.outputs or (self.class_count if name in OF_CLASSES else None)
        if count is None:
            raise ConfigurationError(
                f"expected model.outputs, how many outputs the model of task {task!r} has, for model.likelihood = "
                f"{name}, found none; set it"
            )
        return LIKELIHOODS[name](count, self.config)

    def refuse_beside_a_task(self, task: str) -> None:
        """Raise ConfigurationError where settings tell a likelihood, and a Task tells its own."""
        if self.config.likelihood is not None or self.config.outputs is not None:
            raise ConfigurationError(
                f"expected model.likelihood and model.outputs only for a task that returns a model alone, found them "
                f"beside the Task of {task!r}, which has a likelihood; leave them out, or change the Task"
            )


NOTHING_NAMED = NamedModel()
