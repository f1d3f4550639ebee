"""The audit of a model: what scores assume of it, tried on a few examples of each part of the data.

Axes: N examples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from relatif.pipeline.auditing.gradients import check_gradients
from relatif.pipeline.auditing.likelihoods import check_likelihood
from relatif.pipeline.auditing.outputs import check_reading, check_recorded, check_repeatable, outputs_of
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.inputs import Inputs, tensors


@dataclass(frozen=True, eq=False)
class Sample:
    """Consecutive rows of a part of the data: as they are stored [N, ...], and as the model reads them.

    ``explained`` is the target that is differentiated: the data's (``true``) or the model's (``predicted``).
    """

    split: str
    stored: Inputs
    examples: Examples
    explained: str


def audit(
    subject: CoveredModel, model_inputs: Callable[[Any], Inputs], samples: tuple[Sample, ...]
) -> dict[str, float]:
    """Return, by check, the largest relative difference that was found.

    The model is in float64 and evaluation mode, what is not covered is frozen. Raises ModelError, or NumericalError
    for values that are not finite, at the first thing that would make scores wrong.
    """
    found: dict[str, float] = {}
    for sample in samples:
        for checked in _checks(subject, model_inputs, sample):
            found = {name: max(value, found.get(name, 0.0)) for name, value in {**found, **checked}.items()}
    return found


def _checks(subject: CoveredModel, model_inputs: Callable[[Any], Inputs], sample: Sample) -> list[Mapping[str, float]]:
    split, examples = sample.split, sample.examples
    reading = check_reading(model_inputs, sample.stored, split)
    repeated = check_repeatable(subject.model, examples, split)
    outputs = outputs_of(subject.model, examples.inputs)
    if sample.explained == "true":
        _check_inputs(subject, examples)
    targets = subject.likelihood.explained(outputs, examples.targets, sample.explained)
    examples = replace(examples, targets=targets)
    # Names what is wrong with how layers are called before anything is compared.
    forward = forward_pass(subject.model, examples.inputs, subject.coverage, first_index=examples.first_index)
    recorded = check_recorded(outputs, forward.outputs.detach(), split)
    likelihood = check_likelihood(subject.likelihood, subject.fisher, outputs, examples, split)
    return [reading, repeated, recorded, likelihood, check_gradients(subject, examples, split)]


def _check_inputs(subject: CoveredModel, examples: Examples) -> None:
    """Let a likelihood that knows of such refuse targets that the model is given as its inputs."""
    rule = getattr(subject.likelihood, "check_inputs", None)
    if rule is not None:
        for inputs in tensors(examples.inputs):
            rule(inputs, examples.targets)
