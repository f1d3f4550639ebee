"""Scores of classes, one for each: their softmax without cancellation, and their largest.

Axes: N examples, C classes.
"""

import torch
from torch import Tensor

from relatif.schemas.errors import ModelError


def softmax_gradient(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return ``p - onehot(label)``, [N, C], the label's entry as minus the sum of the others: nothing cancels."""
    gradient = without(outputs.detach().softmax(dim=1), labels)
    return gradient.scatter_(1, labels[:, None], -gradient.sum(dim=1, keepdim=True))


def largest(outputs: Tensor) -> Tensor:
    """Return the label with the largest output, [N]; ModelError for outputs that are no scores of labels."""
    if outputs.ndim != 2:
        raise ModelError(
            f"expected the model to return a score for each label, [N, C], found shape {list(outputs.shape)}; let it "
            f"return those, or give the task a likelihood of its own"
        )
    return outputs.argmax(dim=1)


def without(values: Tensor, labels: Tensor) -> Tensor:
    """Return values [N, C] with 0 at each row's label."""
    return values.scatter(1, labels[:, None], 0.0)


def same_label(outputs: Tensor, label: int) -> Tensor:
    """Return one label for each row of outputs, int64 [N]."""
    return torch.full((len(outputs),), label, dtype=torch.int64, device=outputs.device)


def logit(outputs: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Return the label's output, [N]; ModelError for outputs that are no scores of the classes."""
    if outputs.shape[1:] != (classes,):
        raise ModelError(
            f"expected the model to return a score for each of {classes} labels for score.measurement = logit, found "
            f"shape {list(outputs.shape)}; measure the loss or the margin"
        )
    return outputs.gather(1, labels[:, None])[:, 0]


def own_less_others(values: Tensor, labels: Tensor) -> Tensor:
    """Return ``v_y - log sum_(c != y) exp(v_c)`` of values [N, C], [N]: of logarithms of probabilities the log odds."""
    others = values.scatter(1, labels[:, None], -torch.inf).logsumexp(dim=1)
    return values.gather(1, labels[:, None])[:, 0] - others
