"""What is explained of a test input, as a number that a helpful training example lowers.

Axes: N examples. A positive score means that more weight on the training example lowers the loss, or raises the logit,
the margin, the output or a function of the user's. Of what is to be raised the negative is measured, so that one sign
serves all: the score is ``m_t' (H + lambda I)^-1 g_i`` with m_t the measurement's gradient and g_i that of the loss.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.per_example import differentiated, per_example
from relatif.schemas.errors import ConfigurationError

LOSS = "loss"
NAMED = ("logit", "margin", "output")
"""Measurements that a likelihood may have, as methods of these names."""


class Measurement(Protocol):
    """A number for each example, with its gradient at the outputs. Implementations are values."""

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what is measured, [N], for outputs [N, ...] and the explained targets [N, ...]."""
        ...

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return its gradient at the outputs, in their shape."""
        ...


@dataclass(frozen=True)
class Loss:
    """The loss of the explained targets."""

    likelihood: Likelihood

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, [N] in nats."""
        return self.likelihood.losses(outputs, targets)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the likelihood's own gradient, which loses no digits."""
        return self.likelihood.gradient(outputs, targets)


@dataclass(frozen=True)
class Raised:
    """Minus a function of outputs and explained targets, [N], which a helpful example raises."""

    function: Callable[[Tensor, Tensor], Tensor]

    def values(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return minus the function, [N]; ModelError where it gives no number for each example."""
        return -per_example(self.function(outputs, targets), len(outputs))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return its gradient by automatic differentiation; ModelError where it is cut from the outputs."""
        return differentiated(self.values, outputs, targets)


def measurement_of(name: str, likelihood: Likelihood) -> Measurement:
    """Return a named measurement; ConfigurationError, with those that there are, where the likelihood has none such."""
    if name == LOSS:
        return Loss(likelihood)
    function = getattr(likelihood, name, None)
    if name not in NAMED or function is None:
        there = [LOSS, *(each for each in NAMED if hasattr(likelihood, each))]
        raise ConfigurationError(
            f"expected score.measurement to be {', '.join(there)} or module:function for this task's likelihood, found "
            f"{name}; choose one of them"
        )
    return Raised(function)
