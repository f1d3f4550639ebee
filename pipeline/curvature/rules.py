"""Rules by layer type: how a layer is a linear map of its inputs, applied at T positions, with the bias folded in.

Axes: N examples, T positions, O outputs, I inputs of a block. A rule turns what a layer saw and the gradient of what it
sent into [N, T, I] and [N, T, O], whose outer products, summed over positions, are the gradient of the weight, [O, I]
row by row as PyTorch stores it, with the bias as last column.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from schemas.errors import ModelError

Convolution = nn.Conv1d | nn.Conv2d


@dataclass(frozen=True)
class Rule:
    """How one layer type is covered: ``blocks`` is the number of independent blocks of its weight (groups)."""

    blocks: Callable[[nn.Module], int]
    shape: Callable[[nn.Module], tuple[int, int]]
    inputs: Callable[[nn.Module, Tensor], list[Tensor]]
    output_gradients: Callable[[nn.Module, Tensor], list[Tensor]]


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule that covers a layer, or None.

    Only exact types with their own ``forward`` count: a subclass may compute something of which the rule is wrong.
    """
    for kind, rule in RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return rule
    return None


def _linear_shape(module: nn.Module) -> tuple[int, int]:
    assert isinstance(module, nn.Linear)
    return module.out_features, module.in_features + (module.bias is not None)


def _linear_inputs(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    return [_fold_bias(_positions(inputs), bias=module.bias is not None)]


def _linear_output_gradients(_: nn.Module, gradients: Tensor) -> list[Tensor]:
    return [_positions(gradients)]


def _convolution_shape(module: nn.Module) -> tuple[int, int]:
    assert isinstance(module, Convolution)
    return module.out_channels // module.groups, module.weight[0].numel() + (module.bias is not None)


def _convolution_inputs(module: nn.Module, inputs: Tensor) -> list[Tensor]:
    """Return, per group, the patches that the kernel sees: [N, T, C / groups * kernel (+ 1)]."""
    assert isinstance(module, Convolution)
    padded = functional.pad(inputs, _padding(module), mode=_pad_mode(module))
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if isinstance(module, nn.Conv1d):
        padded, kernel, stride, dilation = padded[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
    patches = functional.unfold(padded, kernel, dilation=dilation, stride=stride)
    groups = patches.unflatten(1, (module.groups, -1)).unbind(dim=1)
    return [_fold_bias(group.transpose(1, 2), bias=module.bias is not None) for group in groups]


def _convolution_output_gradients(module: nn.Module, gradients: Tensor) -> list[Tensor]:
    assert isinstance(module, Convolution)
    groups = gradients.flatten(2).unflatten(1, (module.groups, -1)).unbind(dim=1)
    return [group.transpose(1, 2) for group in groups]


def _padding(module: Convolution) -> list[int]:
    """Return the padding as ``functional.pad`` wants it: last axis first, before and after."""
    pads: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        elif module.padding == "valid":
            pads += [0, 0]
        else:
            pads += [int(module.padding[axis])] * 2
    return pads


def _pad_mode(module: Convolution) -> str:
    return "constant" if module.padding_mode == "zeros" else module.padding_mode


def _positions(values: Tensor) -> Tensor:
    """Fold all axes between the first and the last into one axis of positions: [N, ..., F] -> [N, T, F]."""
    if values.ndim < 2:
        raise ModelError(f"expected a layer's values with the examples as first axis, found shape {list(values.shape)}")
    return values.reshape(values.shape[0], math.prod(values.shape[1:-1]), values.shape[-1])


def _fold_bias(inputs: Tensor, *, bias: bool) -> Tensor:
    return torch.cat([inputs, inputs.new_ones((*inputs.shape[:-1], 1))], dim=-1) if bias else inputs


_LINEAR = Rule(lambda _: 1, _linear_shape, _linear_inputs, _linear_output_gradients)
_CONVOLUTION = Rule(
    lambda module: int(module.groups) if isinstance(module, Convolution) else 1,
    _convolution_shape,
    _convolution_inputs,
    _convolution_output_gradients,
)

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _LINEAR,
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
}
