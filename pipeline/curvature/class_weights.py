"""Cross-entropy with weights of classes and smoothed labels, as ``torch.nn.functional.cross_entropy`` defines it.

Axes: N examples, C classes. The loss of a label y is ``sum_c a_c (-log p_c)`` with ``a_c = q_c w_c``: q is the label
smoothed, ``(1 - s) onehot(y) + s / C``, and w are the weights. It is no likelihood: ``exp(-loss)`` does not sum to 1.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional

from relatif.schemas.errors import ConfigurationError


@dataclass(frozen=True)
class Weighting:
    """Weights of the classes (None: all 1) and the share ``smoothing`` of a label that goes to all classes alike."""

    weights: tuple[float, ...] | None
    smoothing: float

    @property
    def curvature(self) -> str:
        """Return in words what the exact curvature is."""
        return (
            f"generalized Gauss-Newton of the weighted cross-entropy, sum_c q_c w_c (diag p - p p'), class weights "
            f"{list(self.weights or ()) or 'all 1'}, label smoothing {self.smoothing:g}, inputs of the training set"
        )

    def losses(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return torch's losses, [N]."""
        weights = None if self.weights is None else outputs.new_tensor(self.weights)
        return functional.cross_entropy(
            outputs, labels, weight=weights, label_smoothing=self.smoothing, reduction="none"
        )

    def gradient(self, plain: Tensor, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return the losses' gradients at the outputs, [N, C], from those of plain cross-entropy, ``p - onehot(y)``.

        ``sum_c a_c (p - onehot(c))``, in which the label's own part keeps all its digits.
        """
        weights = self._weights(outputs)
        own = (1 - self.smoothing) * weights[labels][:, None] * plain
        if not self.smoothing:
            return own
        share = self.smoothing / outputs.shape[1]
        return own + share * (weights.sum() * outputs.detach().softmax(dim=1) - weights)

    def curvature_weights(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """Return ``sum_c q_c w_c``, [N]: the losses' second derivative is that times ``diag p - p p'``."""
        weights = self._weights(outputs)
        return (1 - self.smoothing) * weights[labels] + self.smoothing * weights.mean()

    def _weights(self, outputs: Tensor) -> Tensor:
        return outputs.new_ones(outputs.shape[1]) if self.weights is None else outputs.new_tensor(self.weights)


def checked_weights(values: Any, classes: int) -> tuple[float, ...] | None:
    """Return weights of classes as numbers; ConfigurationError unless there is one of at least 0 for each class."""
    if values is None:
        return None
    try:
        found = tuple(float(value) for value in values) if isinstance(values, Iterable) else ()
    except (TypeError, ValueError):
        found = ()
    if len(found) != classes or not all(0 <= value < math.inf for value in found) or not any(found):
        raise ConfigurationError(
            f"expected class_weights of {classes} numbers of at least 0, one for each class and not all 0, found "
            f"{values}; correct them"
        )
    return found


def check_smoothing(value: float) -> None:
    """Raise ConfigurationError unless a label is smoothed by 0 to less than 1."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
        raise ConfigurationError(
            f"expected label_smoothing from 0 to less than 1, found {value!r}; correct it (0: none)"
        )
