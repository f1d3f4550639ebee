"""What a task may be made of: checked when it is made, before anything runs."""

import operator
from collections.abc import Mapping
from typing import Any

from relatif.pipeline.calls import described
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.schemas.errors import ConfigurationError

FUNCTIONS = {
    "build_model": "a function without arguments that returns the model",
    "model_inputs": "a function of the stored inputs",
    "train": "a function of task, data and settings",
}
"""The parts that have to be functions, and which."""

METHODS = {
    "likelihood": tuple(
        name for name in vars(Likelihood) if not name.startswith("_") and callable(getattr(Likelihood, name))
    ),
    "retrain": ("prepare", "run"),
}
"""The parts that are objects, and the methods that they have to have."""


def check_parts(name: object, parts: Mapping[str, Any]) -> None:
    """Raise ConfigurationError where a part of a task, by its name, is of another kind than it has to be."""
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"expected the name of a task to be a text, found {described(name)}; give it one")
    for part, meaning in FUNCTIONS.items():
        if not callable(parts[part]) and not (part == "train" and parts[part] is None):
            raise _wrong(name, part, meaning, described(parts[part]))
    loss = parts["loss"]
    if loss is not None and not callable(loss):
        raise _wrong(name, "loss", "a function of outputs and labels", described(loss))
    for part, methods in METHODS.items():
        value = parts[part]
        lacking = [method for method in methods if not callable(getattr(value, method, None))]
        if value is not None and (lacking or isinstance(value, type)):
            what = f"{described(value)}{f' without {lacking}' if lacking else ', not an object of it'}"
            raise _wrong(name, part, f"an object with the methods {', '.join(methods)}", what)


def checked_class_count(name: object, value: Any) -> int:
    """Return a task's number of classes; ConfigurationError unless it is a whole number of at least 2."""
    try:
        count = -1 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = -1
    if count < 2:
        raise ConfigurationError(
            f"expected class_count of task {name!r} to be a whole number of at least 2, found {value!r} "
            f"({type(value).__name__}); give the number of classes"
        )
    return count


def _wrong(task: str, part: str, meaning: str, found: str) -> ConfigurationError:
    return ConfigurationError(f"expected {part} of task {task!r} to be {meaning}, found {found}; give one")
