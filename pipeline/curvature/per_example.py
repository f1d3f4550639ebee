"""Losses of single examples, as users write them: one for each, and differentiated at the model's outputs.

Axes: N examples.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from relatif.schemas.errors import ModelError

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""From outputs [N, ...] and targets [N, ...] to losses [N] in nats."""


def per_example(losses: Tensor, count: int) -> Tensor:
    """Return ``losses`` unless they are no tensor of shape [count]: then raise ModelError."""
    if not isinstance(losses, Tensor):
        raise ModelError(
            f"expected a loss for each of {count} examples, found {type(losses).__name__}; let the task's loss return "
            f"a tensor with one value per example (reduction='none'), and no .item()"
        )
    if losses.shape != (count,):
        raise ModelError(
            f"expected a loss for each of {count} examples, found shape {list(losses.shape)}; "
            f"let the task's loss return one value per example (reduction='none')"
        )
    return losses


def differentiated(losses: PerExampleLoss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each example's loss at its outputs, by automatic differentiation.

    Raises ModelError for losses that are cut from the outputs.
    """
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        found = losses(leaf, targets)
        if not found.requires_grad:
            raise ModelError(
                "expected losses that are differentiated at the model's outputs, found them cut from those; let the "
                "task's loss compute in torch, without detach(), no_grad(), argmax or numpy"
            )
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
    return gradient
