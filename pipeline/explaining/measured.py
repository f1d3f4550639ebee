"""What is explained of test inputs, from the settings: a likelihood's own measurement or a function of the user's."""

import importlib

from relatif.pipeline.calls import called
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import LOSS, Measurement, Raised, measurement_of
from relatif.pipeline.runs.code import task_code
from relatif.pipeline.tasks.guarding import Guarded
from relatif.schemas.config import ScoreConfig
from relatif.schemas.errors import ConfigurationError


def measurement_name(config: ScoreConfig, likelihood: Likelihood) -> str:
    """Return what is measured: what the settings name, else the likelihood's own, else the loss.

    Raises ConfigurationError for what the likelihood lacks, and for what makes no sense with ``score.explained_label``.
    """
    default = getattr(likelihood, "default_measurement", None)
    name: str = config.measurement or (LOSS if default is None else default(config.explained_label))
    check = getattr(likelihood, "check_measurement", None)
    if check is not None:
        check(name, config.explained_label)
    load_measurement(name, likelihood)
    return name


def load_measurement(name: str, likelihood: Likelihood) -> Measurement:
    """Return a measurement by its name, or the user's at ``module:function``, whose errors are told as the user's.

    Raises ConfigurationError where there is none.
    """
    module, separator, function = name.partition(":")
    if not separator:
        return measurement_of(name, likelihood)
    what = f"the measurement {name}"
    try:
        with called(f"module {module!r} of {what}", "be imported", passed=(ImportError,)):
            found = getattr(importlib.import_module(module), function, None)
    except ImportError as error:
        raise ConfigurationError(
            f"expected to import module {module!r} of score.measurement, found {error}; start the job in the folder "
            f"that holds it, or install it where jobs and workers run"
        ) from error
    if not callable(found):
        raise ConfigurationError(
            f"expected a function {function!r} in module {module!r} for score.measurement, found none; define "
            f"{function}(outputs, targets), which returns a number for each example"
        )
    return Raised(Guarded(found, what, "return a number for each example", ("outputs", "targets")))


def measurement_code(config: ScoreConfig) -> list[str]:
    """Return digests of the code of a user's measurement; none where it is one of this project's."""
    module, separator, _ = (config.measurement or "").partition(":")
    own = task_code(module).own if separator else None
    return [] if own is None else [own]


def sign_text(name: str) -> str:
    """Return in words what a positive score means."""
    what = "lowers the test input's loss" if name == LOSS else f"raises the test input's {name}"
    return f"positive influence is helpful: up-weighting the training example {what}"


def measured_text(name: str, config: ScoreConfig) -> str:
    """Return in words what is explained of test inputs, as plans and tables say it."""
    choice = config.explained_label
    target = f"label or output {choice}" if isinstance(choice, int) else f"the {choice} target"
    note = "" if config.measurement is not None or name == LOSS else ", as the loss has no gradient at the prediction"
    return f"{name} of {target}{note}"
