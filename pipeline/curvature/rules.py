"""Rules by layer type: how a layer's gradient is a sum of outer products over positions, block by block.

Axes: N examples, T positions, O outputs, I inputs of a block. For every block a rule gives factors [N, T, O] and
[N, T, I]; their outer products, summed over positions, are the block's gradient, [N, O, I]. A bias is a last input of
constant 1. Elementwise scales and shifts have no such structure: their block is one row, the gradient itself
(O = T = 1) beside a constant 1, so that the Kronecker factor of its inputs is the exact block of the curvature.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from relatif.pipeline.curvature.sides import OneHot, Side
from relatif.schemas.errors import ModelError


class Factors(NamedTuple):
    """One use of a block: values [N, T, O] and [N, T, I] whose outer products, summed over positions, are its gradient.

    ``outputs`` are the gradients at the layer's outputs and ``inputs`` what it saw, the same for every term of the
    Fisher. ``transposed`` says that it is the other way round: then ``inputs`` are the gradients.
    """

    outputs: Side
    inputs: Side
    transposed: bool = False

    @property
    def gradients(self) -> Side:
        """Return the side that holds gradients."""
        return self.inputs if self.transposed else self.outputs

    @property
    def seen(self) -> Side:
        """Return the side that is the same for every term of the Fisher."""
        return self.outputs if self.transposed else self.inputs


@dataclass(frozen=True)
class Rule:
    """How one layer type is covered.

    ``shapes(module)`` are (O, I) of its independent blocks (the groups of a convolution). ``inputs`` turns the layer's
    inputs in a forward pass into what is kept of them, [N, T, ...] for each block. ``factors`` turns these and the
    gradient at the layer's outputs into the factors of each block. ``parameters`` turns matrices [..., O, I] of the
    blocks into values [..., *shape] of the layer's parameters, by name. With ``elementwise`` a block is one row.
    """

    shapes: Callable[[nn.Module], list[tuple[int, int]]]
    inputs: Callable[[nn.Module, Tensor], Sequence[Side]]
    factors: Callable[[nn.Module, Sequence[Any], Tensor], list[Factors]]
    parameters: Callable[[nn.Module, Sequence[Tensor]], dict[str, Tensor]]
    elementwise: bool = False


def rule_for(module: nn.Module) -> Rule | None:
    """Return the rule that covers a layer, or None.

    A subclass with a ``forward`` of its own is not covered: it may compute something else.
    """
    for kind, rule in RULES.items():
        if isinstance(module, kind) and type(module).forward is kind.forward:
            return None if _has_side_effects(module) else rule
    return None


def bias_rule_for(module: nn.Module) -> Rule | None:
    """Return the rule that covers the bias of a layer alone, or None; its weight may be frozen or made of others."""
    for kind in BIAS_ALONE:
        if isinstance(module, kind) and type(module).forward is kind.forward and module.bias is not None:
            return BIAS_RULE
    return None


def _has_side_effects(module: nn.Module) -> bool:
    """Whether an embedding changes its weights in the forward pass, or its gradient depends on the rest of a batch."""
    return isinstance(module, nn.Embedding) and (module.max_norm is not None or module.scale_grad_by_freq)


def _linear_shapes(module: nn.Module) -> list[tuple[int, int]]:
    assert isinstance(module, nn.Linear)
    return [(module.out_features, module.in_features + (module.bias is not None))]


def _linear_inputs(module: nn.Module, seen: Tensor) -> list[Tensor]:
    return [_fold_bias(_positions(seen), bias=module.bias is not None)]


def _linear_factors(_: nn.Module, inputs: Sequence[Tensor], gradient: Tensor) -> list[Factors]:
    return [Factors(_positions(gradient), inputs[0])]


def _weight_and_bias(module: nn.Module, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    """Return the weight, whose outputs are those of the blocks in order, and the bias from the blocks' last column."""
    assert isinstance(module.weight, Tensor)
    whole = torch.cat(list(blocks), dim=-2)
    weight = whole if module.bias is None else whole[..., :-1]
    found = {"weight": weight.reshape(*whole.shape[:-2], *module.weight.shape)}
    return found if module.bias is None else {**found, "bias": whole[..., -1]}


def _convolution_shapes(module: nn.Module) -> list[tuple[int, int]]:
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    shape = module.out_channels // module.groups, module.weight[0].numel() + (module.bias is not None)
    return [shape] * module.groups


def _convolution_inputs(module: nn.Module, seen: Tensor) -> list[Tensor]:
    """Return, per group, the patches of the inputs under the kernel: [N, T, C / groups * kernel (+ 1)]."""
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    # Padded first, as unfold itself knows only zeros.
    padded = functional.pad(seen, _padding(module), mode=_pad_mode(module))
    kernel, stride, dilation = module.kernel_size, module.stride, module.dilation
    if isinstance(module, nn.Conv1d):
        # unfold wants two axes: the first has length 1 here.
        padded, kernel, stride, dilation = padded[:, :, None], (1, *kernel), (1, *stride), (1, *dilation)
    patches = functional.unfold(padded, kernel, dilation=dilation, stride=stride)
    # A patch lists its values channel by channel, so those of a group are consecutive.
    groups = patches.unflatten(1, (module.groups, -1)).unbind(dim=1)
    # The bias's row of ones is added before the transposition, which then stays a view.
    folded = [functional.pad(group, (0, 0, 0, int(module.bias is not None)), value=1) for group in groups]
    return [group.transpose(1, 2) for group in folded]


def _convolution_factors(module: nn.Module, inputs: Sequence[Tensor], gradient: Tensor) -> list[Factors]:
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    groups = gradient.flatten(2).unflatten(1, (module.groups, -1)).unbind(dim=1)
    return [Factors(group.transpose(1, 2), patches) for group, patches in zip(groups, inputs, strict=True)]


def _embedding_shapes(module: nn.Module) -> list[tuple[int, int]]:
    assert isinstance(module, nn.Embedding)
    return [(module.embedding_dim, module.num_embeddings)]


def _embedding_inputs(module: nn.Module, seen: Tensor) -> list[OneHot]:
    """Return the looked-up rows as inputs of a linear layer, one at its place and 0 elsewhere: [N, T, V].

    The padding row is a constant: its inputs are zero.
    """
    assert isinstance(module, nn.Embedding)
    rows = seen.reshape(len(seen), -1).long()
    weights = torch.ones_like(rows, dtype=module.weight.dtype)
    if module.padding_idx is not None:
        weights[rows == module.padding_idx] = 0
    return [OneHot(rows, module.num_embeddings, weights)]


def _embedding_factors(_: nn.Module, inputs: Sequence[OneHot], gradient: Tensor) -> list[Factors]:
    return [Factors(_positions(gradient), inputs[0])]


def _embedding_parameters(_: nn.Module, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    return {"weight": blocks[0].mT}


def _affine_shapes(module: nn.Module) -> list[tuple[int, int]]:
    return [(1, sum(parameter.numel() for parameter in module.parameters(recurse=False)))]


def _layer_norm_inputs(module: nn.Module, seen: Tensor) -> list[Tensor]:
    assert isinstance(module, nn.LayerNorm)
    # Without weight and bias: the gradient of the scale is the output gradient times this.
    normalized = functional.layer_norm(seen, module.normalized_shape, eps=module.eps)
    return [normalized.reshape(len(seen), -1, math.prod(module.normalized_shape))]


def _layer_norm_factors(module: nn.Module, inputs: Sequence[Tensor], gradient: Tensor) -> list[Factors]:
    return _affine_factors(module, inputs[0], gradient.reshape(inputs[0].shape))


def _group_norm_inputs(module: nn.Module, seen: Tensor) -> list[Tensor]:
    assert isinstance(module, nn.GroupNorm)
    return [_channels_last(functional.group_norm(seen, module.num_groups, eps=module.eps))]


def _batch_norm_inputs(module: nn.Module, seen: Tensor) -> list[Tensor]:
    assert isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)
    if module.training or module.running_mean is None or module.running_var is None:
        raise ModelError(
            f"expected {type(module).__name__} in evaluation mode with running statistics, found it to depend on the "
            f"other examples of its batch; call eval(), and leave track_running_stats on"
        )
    normalized = functional.batch_norm(seen, module.running_mean, module.running_var, eps=module.eps)
    return [_channels_last(normalized)]


def _channel_norm_factors(module: nn.Module, inputs: Sequence[Tensor], gradient: Tensor) -> list[Factors]:
    return _affine_factors(module, inputs[0], _channels_last(gradient))


def _affine_factors(module: nn.Module, normalized: Tensor, gradient: Tensor) -> list[Factors]:
    """Return the gradient of scale and shift as one row, for normalized inputs and gradients [N, T, D]."""
    # One scale and shift act at all positions, so their gradients are sums over positions.
    parts = [(gradient * normalized).sum(dim=1)]
    if module.bias is not None:
        parts.append(gradient.sum(dim=1))
    row = torch.cat(parts, dim=1)[:, None]
    return [Factors(row.new_ones(len(row), 1, 1), row, transposed=True)]


def _affine_parameters(module: nn.Module, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    owned: Mapping[str, Tensor] = dict(module.named_parameters(recurse=False))
    pieces = blocks[0][..., 0, :].split([parameter.numel() for parameter in owned.values()], dim=-1)
    return {
        name: piece.reshape(*piece.shape[:-1], *parameter.shape)
        for (name, parameter), piece in zip(owned.items(), pieces, strict=True)
    }


def _bias_shapes(module: nn.Module) -> list[tuple[int, int]]:
    assert isinstance(module.bias, Tensor)
    return [(module.bias.numel(), 1)]


def _bias_inputs(_: nn.Module, seen: Tensor) -> list[Tensor]:
    return [seen.new_ones(len(seen), 1, 1)]


def _bias_factors(module: nn.Module, inputs: Sequence[Tensor], gradient: Tensor) -> list[Factors]:
    """Return the gradient of the bias, summed over positions, beside the constant 1: the block is exact."""
    if isinstance(module, nn.Linear | nn.LayerNorm):
        assert isinstance(module.bias, Tensor)
        summed = gradient.reshape(len(gradient), -1, module.bias.numel()).sum(dim=1)
    else:
        summed = _channels_last(gradient).sum(dim=1)
    return [Factors(summed[:, None], inputs[0])]


def _bias_parameters(module: nn.Module, blocks: Sequence[Tensor]) -> dict[str, Tensor]:
    assert isinstance(module.bias, Tensor)
    values = blocks[0][..., 0]
    return {"bias": values.reshape(*values.shape[:-1], *module.bias.shape)}


def _channels_last(values: Tensor) -> Tensor:
    """Return [N, C, ...] as [N, T, C]."""
    return values.reshape(*values.shape[:2], math.prod(values.shape[2:])).transpose(1, 2)


def _padding(module: nn.Conv1d | nn.Conv2d) -> list[int]:
    """Return the padding as ``functional.pad`` wants it: last axis first, before and after."""
    pads: list[int] = []
    for axis in reversed(range(len(module.kernel_size))):
        if module.padding == "same":
            # An odd number of zeros: torch puts the extra one behind.
            total = module.dilation[axis] * (module.kernel_size[axis] - 1)
            pads += [total // 2, total - total // 2]
        elif module.padding == "valid":
            pads += [0, 0]
        else:
            pads += [int(module.padding[axis])] * 2
    return pads


def _pad_mode(module: nn.Conv1d | nn.Conv2d) -> str:
    return "constant" if module.padding_mode == "zeros" else module.padding_mode


def _positions(values: Tensor) -> Tensor:
    """Fold all axes between the first and the last into one axis of positions: [N, ..., F] -> [N, T, F]."""
    if values.ndim < 2:
        raise ModelError(f"expected a layer's values with the examples as first axis, found shape {list(values.shape)}")
    return values.reshape(values.shape[0], math.prod(values.shape[1:-1]), values.shape[-1])


def _fold_bias(inputs: Tensor, *, bias: bool) -> Tensor:
    return torch.cat([inputs, inputs.new_ones((*inputs.shape[:-1], 1))], dim=-1) if bias else inputs


_LINEAR = Rule(_linear_shapes, _linear_inputs, _linear_factors, _weight_and_bias)
_CONVOLUTION = Rule(_convolution_shapes, _convolution_inputs, _convolution_factors, _weight_and_bias)
_EMBEDDING = Rule(_embedding_shapes, _embedding_inputs, _embedding_factors, _embedding_parameters)
_LAYER_NORM = Rule(_affine_shapes, _layer_norm_inputs, _layer_norm_factors, _affine_parameters, elementwise=True)
_GROUP_NORM = Rule(_affine_shapes, _group_norm_inputs, _channel_norm_factors, _affine_parameters, elementwise=True)
_BATCH_NORM = Rule(_affine_shapes, _batch_norm_inputs, _channel_norm_factors, _affine_parameters, elementwise=True)

BIAS_RULE = Rule(_bias_shapes, _bias_inputs, _bias_factors, _bias_parameters)
BIAS_ALONE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.GroupNorm)
"""The layers whose bias is covered where it is all that is trained."""

RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _LINEAR,
    nn.Conv1d: _CONVOLUTION,
    nn.Conv2d: _CONVOLUTION,
    nn.Embedding: _EMBEDDING,
    nn.LayerNorm: _LAYER_NORM,
    nn.GroupNorm: _GROUP_NORM,
    nn.BatchNorm1d: _BATCH_NORM,
    nn.BatchNorm2d: _BATCH_NORM,
}
"""The layers whose gradients are covered. BatchNorm2d inherits ``forward``, as BatchNorm1d does, from their base."""
