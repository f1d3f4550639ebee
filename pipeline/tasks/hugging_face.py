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

ARCHITECTURES = {
    "ForSequenceClassification": "",
    "ForImageClassification": "",
    "ForTokenClassification": "token_categorical",
    "ForCausalLM": "token_categorical",
    "LMHeadModel": "token_categorical",
}
"""Ends of the architectures that can be explained, and their likelihoods; the problem's type tells the others'."""

LANGUAGE_MODELS = ("ForCausalLM", "LMHeadModel")
"""Their outputs predict the next token; given the same tokens as inputs and as targets they have a shift of 1."""

LIKELIHOODS = {
    "single_label_classification": "categorical",
    "multi_label_classification": "bernoulli",
    "regression": "gaussian",
}
"""Names of likelihoods by the ``problem_type`` of a configuration."""


def hugging_face(named: NamedModel) -> Task:
    """Return the task of the model folder that ``model.checkpoint`` names.

    Raises ConfigurationError where it names none, without ``transformers``, and for other architectures.
    """
    address = named.config.checkpoint
    described = None if address is None else model_config(address)
    if address is None or described is None:
        raise ConfigurationError(
            f"expected {SETTING} to be a model folder with {CONFIG} for task {NAME!r}, found "
            f"{'none' if address is None else f'no {CONFIG} in {address}'}; name the folder that save_pretrained wrote"
        )
    build = BuildFromConfig(described)
    told = replace(named, config=named.config.model_copy(update=_told(named, build)))
    return Task(NAME, build_model=build, likelihood=told.likelihood(NAME))


def _told(named: NamedModel, build: "BuildFromConfig") -> dict[str, Any]:
    """Return what the folder says of the likelihood, where the settings do not."""
    architecture, config = build.require_known(), named.config
    language = architecture.endswith(LANGUAGE_MODELS)
    outputs = config.outputs or (build.configuration().vocab_size if language else build.configuration().num_labels)
    problem = build.described.get("problem_type") or ("regression" if outputs == 1 else "single_label_classification")
    of_architecture = next(name for end, name in ARCHITECTURES.items() if architecture.endswith(end))
    likelihood = config.likelihood or of_architecture or LIKELIHOODS.get(str(problem))
    shift = 1 if config.shift is None and language and likelihood == "token_categorical" else config.shift
    return {"outputs": int(outputs), "likelihood": likelihood, "shift": shift}


@dataclass(frozen=True)
class BuildFromConfig:
    """Builds the untrained model of a configuration, as ``config.json`` holds it."""

    described: Mapping[str, Any]

    def __call__(self) -> nn.Module:
        """Return the untrained model."""
        found: nn.Module = getattr(_transformers(), self.require_known())(self.configuration())
        return found

    def require_known(self) -> str:
        """Return the model's class by name; ConfigurationError where it is not one whose outputs are understood."""
        named = self.described.get("architectures") or []
        if len(named) != 1 or not str(named[0]).endswith(tuple(ARCHITECTURES)):
            raise ConfigurationError(
                f"expected one architecture that ends in {', '.join(ARCHITECTURES)} in {CONFIG} of {SETTING}, found "
                f"{', '.join(map(str, named)) or 'none'}; write a function that returns the model, task = "
                f"module:function, and give model.likelihood"
            )
        if not hasattr(_transformers(), str(named[0])):
            raise ConfigurationError(
                f"expected the architecture {named[0]} of {CONFIG} in transformers {_transformers().__version__}, "
                f"found none; install the version that has it"
            )
        return str(named[0])

    def configuration(self) -> Any:
        """Return the configuration as ``transformers`` has it."""
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
