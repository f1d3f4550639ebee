"""A model that is lent to a check and given back as it was, and parameters that are moved away from special values."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from relatif.pipeline.devices import CPU

SHARE = 0.5
"""Size of a perturbation, of a parameter's own root mean square."""

LEAST = 0.1
"""Least perturbation of a vector such as a bias, and of a matrix after division by the root of its inputs: a layer that
begins at zero then passes on signals and gradients of a size like any other's."""


@contextmanager
def lent(model: nn.Module) -> Iterator[None]:
    """Put a model's numbers, their types, and its modes back as they were, whatever the block does to them."""
    tensors = [*model.parameters(), *model.buffers()]
    values = [(tensor, tensor.data, tensor.data.clone(), tensor.requires_grad) for tensor in tensors]
    buffers = [(module, dict(module._buffers)) for module in model.modules()]
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, held in buffers:
            module._buffers.update(held)
        for tensor, data, copy, requires_grad in values:
            data.copy_(copy)
            tensor.data = data
            if tensor.requires_grad != requires_grad:
                tensor.requires_grad_(requires_grad)
        for module, training in modes:
            module.training = training


@torch.no_grad()
def perturb(model: nn.Module, seed: int) -> None:
    """Add seeded random numbers to every trainable parameter, in place.

    Zeros and ones, with which heads, gates and adapters begin, hide errors: what they multiply has no gradient.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64, device=CPU)
            parameter.add_(drawn.to(parameter) * _size(parameter))


def _size(parameter: Tensor) -> float:
    inputs = max(1, parameter[0].numel()) if parameter.ndim > 1 and len(parameter) else 1
    own = float(parameter.double().square().mean().sqrt()) if parameter.numel() else 0.0
    return max(SHARE * own if parameter.ndim > 1 else 0.0, LEAST / inputs**0.5)
