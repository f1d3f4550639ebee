"""The model of a Hugging Face folder as a task: ``task = "hugging_face"`` and ``model.checkpoint`` its folder or URL.

The package ``transformers`` builds the model from ``config.json``; it is imported where such a task is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from torch import nn

from relatif.pipeline.checkpoints.hugging_face import model_config
from relatif.pipeline.checkpoints.places import CONFIG, SETTING
from relatif.pipeline.tasks.named import NamedModel
from relatif.pipeline.tasks.task import Task
from relatif.schemas.errors import ConfigurationError

NAME = "hugging_face"

CLASSIFIERS = ("ForSequenceClassification", "ForImageClassification")
"""Ends of the architectures whose outputs are scores of classes, [N, num_labels]."""

LIKELIHOODS = {
    "single_label_classification": "categorical",
    "multi_label_classification": "bernoulli",
    "regression": "gaussian",
}
"""Names of likelihoods by the ``problem_type`` of a configuration."""


def hugging_face(named: NamedModel) -> Task:
    """Return the task of the model folder that ``model.checkpoint`` names.

    Raises ConfigurationError where it names none, without ``transformers``, and for an architecture whose outputs are
    no scores of an example's classes.
    """
    address = named.config.checkpoint
    described = None if address is None else model_config(address)
    if address is None or described is None:
        raise ConfigurationError(
            f"expected {SETTING} to be a model folder with {CONFIG} for task {NAME!r}, found "
            f"{'none' if address is None else f'no {CONFIG} in {address}'}; name the folder that save_pretrained wrote"
        )
    build = BuildFromConfig(described)
    build.require_classifier()
    outputs = named.config.outputs or build.label_count
    problem = described.get("problem_type") or ("regression" if outputs == 1 else "single_label_classification")
    told = replace(
        named,
        config=named.config.model_copy(
            update={"outputs": outputs, "likelihood": named.config.likelihood or LIKELIHOODS.get(str(problem))}
        ),
    )
    return Task(NAME, build_model=build, likelihood=told.likelihood(NAME))


@dataclass(frozen=True)
class BuildFromConfig:
    """Builds the untrained model of a configuration, as ``config.json`` holds it."""

    described: Mapping[str, Any]

    def __call__(self) -> nn.Module:
        """Return the untrained model."""
        found: nn.Module = getattr(_transformers(), self.require_classifier())(self._config())
        return found

    def require_classifier(self) -> str:
        """Return the model's class by name; ConfigurationError where its outputs are no scores of classes."""
        named = self.described.get("architectures") or []
        if len(named) != 1 or not str(named[0]).endswith(CLASSIFIERS):
            raise ConfigurationError(
                f"expected one architecture that ends in {' or '.join(CLASSIFIERS)} in {CONFIG} of {SETTING}, found "
                f"{', '.join(map(str, named)) or 'none'}; write a function that returns the model, task = "
                f"module:function, and give model.likelihood"
            )
        if not hasattr(_transformers(), str(named[0])):
            raise ConfigurationError(
                f"expected the architecture {named[0]} of {CONFIG} in transformers {_transformers().__version__}, "
                f"found none; install the version that has it"
            )
        return str(named[0])

    @property
    def label_count(self) -> int:
        """Number of labels that the configuration tells."""
        return int(self._config().num_labels)

    def _config(self) -> Any:
        values = {key: value for key, value in self.described.items() if key not in ("model_type", "architectures")}
        # The plain arithmetic of attention: the other ones are for half precision.
        return _transformers().AutoConfig.for_model(
            self.described.get("model_type"), attn_implementation="eager", **values
        )


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ImportError as error:
        raise ConfigurationError(
            f"expected the package transformers, which builds the model of task {NAME!r}, found none ({error}); pip "
            f"install transformers, on every machine"
        ) from error
