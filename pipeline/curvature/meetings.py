"""Parameters that meet data element by element, in a concatenation, in a normalization, or in any other function.

Axes: N examples, T positions, D elements. Each example gets a copy of the parameter, whose gradient is the example's.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.places import BlockUse
from relatif.pipeline.curvature.recording import Recorder, by_example, refusal, tensors_in

ARITHMETIC = ("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "truediv", "pow")
IN_PLACE_OR_TURNED = ("radd", "rsub", "rmul", "rdiv", "rtruediv", "rpow", "iadd", "isub", "imul", "itruediv")
CHOICES = ("where", "maximum", "minimum", "lerp", "addcmul", "addcdiv")
ELEMENTWISE = frozenset([*ARITHMETIC, *IN_PLACE_OR_TURNED, *CHOICES])
"""Names of functions that work element by element, with broadcasting."""

SHAPE_ALONE = frozenset(("to", "type_as", "expand_as", "view_as", "reshape_as"))
"""Functions that look at their further arguments' types, shapes and devices alone."""

SAME = 1e-6
"""Of the largest output: one example after another gives other rounding, an other function far more."""


def is_broadcast(name: str) -> bool:
    """Whether a function of this name works element by element, with broadcasting."""
    return name.strip("_") in ELEMENTWISE


def only_shape(recorder: Recorder, name: str, args: tuple[Any, ...]) -> bool:
    """Whether no value of a covered parameter enters what a function returns."""
    return name in SHAPE_ALONE and recorder.is_data(args[0])


def broadcast(recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run an elementwise function with a copy of every parameter for each example, and record them.

    NotImplemented where the result's first axis is not that of the data.
    """
    tensors = tensors_in((args, kwargs))
    data = max((each for each in tensors if recorder.is_data(each)), key=lambda each: each.ndim)
    whole = torch.broadcast_shapes(*(each.shape for each in tensors))
    if not whole or data.ndim != len(whole) or data.shape[0] != whole[0] or whole[0] % recorder.count:
        return NotImplemented

    def copied(value: Any) -> Any:
        if not recorder.is_covered(value):
            return value
        lined = value.reshape((1,) * (len(whole) - value.ndim) + tuple(value.shape))
        if lined.shape[0] != 1:
            return _aligned(recorder, value)
        node = lined.expand(recorder.count, *lined.shape[1:])
        _record(recorder, value, node, math.prod(whole[1:]) // max(1, math.prod(lined.shape[1:])))
        return node if whole[0] == recorder.count else node.repeat_interleave(whole[0] // recorder.count, dim=0)

    return func(*_mapped(copied, args), **_mapped(copied, kwargs))


def concatenated(recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run a concatenation of data and copies of parameters along another axis than the examples'."""
    parts, *rest = args if args else (kwargs["tensors"],)
    axis = rest[0] if rest else kwargs.get("dim", kwargs.get("axis", 0))
    if axis % parts[0].ndim == 0 or any(len(part) % recorder.count for part in parts):
        return NotImplemented
    taken = [_aligned(recorder, part) if recorder.is_covered(part) else part for part in parts]
    return func(taken, dim=axis)


def one_by_one(recorder: Recorder, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run any function example by example, each with copies of the parameters, and record these.

    Raises ModelError that names the parameters where that fails or gives other outputs than the function itself.
    """
    names, count = recorder.parameters_in((args, kwargs)), recorder.count
    copies: dict[int, Tensor] = {}

    def of_example(value: Any, row: int) -> Any:
        if recorder.is_covered(value):
            if id(value) not in copies:
                copies[id(value)] = value.expand(count, *value.shape)
                _record(recorder, value, copies[id(value)], 1)
            return copies[id(value)][row]
        if recorder.is_data(value) and value.ndim:
            by_example(value[:, None].flatten(1), count, names)
            each = len(value) // count
            return value[row * each : (row + 1) * each]
        return value

    def run(row: int) -> Tensor:
        rows_args, rows_kwargs = (_mapped(lambda value: of_example(value, row), each) for each in (args, kwargs))
        output: Tensor = func(*rows_args, **rows_kwargs)
        return output

    try:
        expected = func(*_mapped(torch.detach, args), **_mapped(torch.detach, kwargs))
        rows = [run(row) for row in range(count)]
        found = torch.cat(rows)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise refusal(names, func) from error
    if found.shape != expected.shape or not _alike(found, expected):
        raise refusal(names, func)
    return found


def record_norm(recorder: Recorder, output: Tensor, normalized: Tensor, given: dict[str, Any], *, axes: int) -> Tensor:
    """Record the scale and shift of a normalization, over the last ``axes`` axes or the channels; return the output.

    The gradient of the scale is the sum over positions of the output gradients times the normalized inputs.
    """
    weight, bias = (given.get(name) for name in ("weight", "bias"))
    if not recorder.is_data(given["input"]):
        raise refusal(recorder.parameters_in(given), functional.layer_norm)
    blocks, names = recorder.blocks(weight, bias), recorder.parameters_in(given)

    def lined(values: Tensor) -> Tensor:
        """Return [N, T, D]."""
        if axes:
            flat = values.reshape(len(values), -1, math.prod(values.shape[values.ndim - axes :]))
        else:
            flat = values.reshape(*values.shape[:2], math.prod(values.shape[2:])).transpose(1, 2)
        return by_example(flat, recorder.count, names)

    kept = lined(normalized)

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        sent = lined(gradient)
        # One scale and shift act at all positions, so their gradients are sums over positions.
        if weight is not None and recorder.is_covered(weight):
            yield from recorder.dense(weight, (sent * kept).sum(dim=1).reshape(len(sent), *weight.shape))
        if bias is not None and recorder.is_covered(bias):
            yield from recorder.dense(bias, sent.sum(dim=1).reshape(len(sent), *bias.shape))

    recorder.record(output, [kept], blocks, kept.shape[1], factors)
    return output.clone()


def _record(recorder: Recorder, value: Tensor, node: Tensor, positions: int) -> None:
    """Record a node that holds a copy of a tensor for each example."""

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        return recorder.dense(value, gradient.reshape(recorder.count, *value.shape))

    recorder.record(node, [], recorder.blocks(value), positions, factors)


def _aligned(recorder: Recorder, value: Tensor) -> Tensor:
    """Record a tensor whose first axis is the data's, and return an alias of it."""
    node = value.view_as(value)
    recorder.record(node, [], recorder.blocks(value), 1, lambda gradient: recorder.aligned(value, gradient))
    return node


def _alike(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= SAME * other.abs().max()) if one.numel() else True


def _mapped(function: Callable[[Any], Any], values: Any) -> Any:
    """Return nested tuples, lists and dicts with a function applied to their tensors."""
    if isinstance(values, Tensor):
        return function(values)
    if isinstance(values, dict):
        return {key: _mapped(function, value) for key, value in values.items()}
    if isinstance(values, tuple | list) and type(values) in (tuple, list):
        return type(values)(_mapped(function, value) for value in values)
    return values
