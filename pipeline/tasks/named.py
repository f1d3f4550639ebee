"""A task that names a model alone: what its outputs mean is told by the settings of ``model`` and by the data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from relatif.pipeline.curvature.likelihood import Categorical, Likelihood
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.model_config import ModelConfig

MADE_BY: Mapping[str, Callable[..., Likelihood]] = {
    "categorical": Categorical,
    "bernoulli": Bernoulli,
    "gaussian": Gaussian,
    "token_categorical": TokenCategorical,
    "dense_categorical": DenseCategorical,
}
"""By the names that ``model.likelihood`` takes: made of the number of outputs, and of what the settings name."""

OPTIONS: Mapping[str, tuple[str, ...]] = {
    "categorical": ("class_weights", "label_smoothing"),
    "gaussian": ("variance",),
    "token_categorical": ("ignore_index", "shift"),
    "dense_categorical": ("ignore_index",),
}
"""Settings of ``model`` that a likelihood takes, by its name."""

SETTINGS = ("likelihood", "outputs", *dict.fromkeys(option for options in OPTIONS.values() for option in options))

OF_CLASSES = ("categorical", "dense_categorical")
"""Likelihoods whose number of outputs the data's classes tell."""

OF_COLUMNS = ("bernoulli", "gaussian")
"""Likelihoods whose number of outputs the data's columns of targets tell."""


@dataclass(frozen=True)
class NamedModel:
    """The settings of ``model``, and the numbers of classes and of columns of targets, None where there are none."""

    config: ModelConfig = field(default_factory=ModelConfig)
    class_count: int | None = None
    target_count: int | None = None

    def likelihood(self, task: str) -> Likelihood:
        """Return the likelihood of a task that is a model alone.

        Raises ConfigurationError where neither the settings nor the data tell it, or its number of outputs.
        """
        name = self.config.likelihood or ("categorical" if self.class_count is not None else None)
        if name is None:
            raise ConfigurationError(
                f"expected model.likelihood for task {task!r}, which returns a model alone, and data without classes, "
                f"found none; set it to one of {', '.join(MADE_BY)}, or return a Task"
            )
        count = self.config.outputs or self._told_by_data(name)
        if count is None:
            raise ConfigurationError(
                f"expected model.outputs, how many outputs the model of task {task!r} has, for model.likelihood = "
                f"{name}, found none; set it"
            )
        given = {option: getattr(self.config, option) for option in SETTINGS[2:]}
        given = {option: value for option, value in given.items() if value is not None}
        others = [f"model.{option}" for option in given if option not in OPTIONS.get(name, ())]
        if others:
            raise ConfigurationError(
                f"expected settings of model.likelihood = {name}, found {', '.join(others)}, which it does not have; "
                f"leave that out"
            )
        return MADE_BY[name](count, **given)

    def _told_by_data(self, likelihood: str) -> int | None:
        told = dict.fromkeys(OF_CLASSES, self.class_count) | dict.fromkeys(OF_COLUMNS, self.target_count)
        return told.get(likelihood)

    def refuse_beside_a_task(self, task: str) -> None:
        """Raise ConfigurationError where settings tell a likelihood, and a Task tells its own."""
        told = [f"model.{name}" for name in SETTINGS if getattr(self.config, name) is not None]
        if told:
            raise ConfigurationError(
                f"expected {' and '.join(told)} only for a task that returns a model alone, found a Task of {task!r}, "
                f"which has a likelihood; leave that out, or change the Task"
            )


NOTHING_NAMED = NamedModel()
