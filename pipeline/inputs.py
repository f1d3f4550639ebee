"""What a model reads of a batch: one tensor, a tuple of tensors by position, or a dict of tensors by name.

Axes: N examples, the first axis of every tensor; F features.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from relatif.schemas.errors import ModelError

Inputs = Tensor | tuple[Tensor, ...] | dict[str, Tensor]
"""A model is called as ``model(tensor)``, ``model(*tuple)`` or ``model(**dict)``."""

WHOLE = frozenset((torch.int32, torch.int64, torch.bool))
"""Types that stay as they are: numbers of words, positions, masks."""


def tensors(inputs: Inputs) -> list[Tensor]:
    """Return the tensors in their order."""
    if isinstance(inputs, Tensor):
        return [inputs]
    return list(inputs.values() if isinstance(inputs, dict) else inputs)


def mapped(function: Callable[[Tensor], Tensor], inputs: Inputs) -> Inputs:
    """Return inputs of the same form, each tensor replaced by ``function(tensor)``."""
    if isinstance(inputs, Tensor):
        return function(inputs)
    if isinstance(inputs, dict):
        return {name: function(tensor) for name, tensor in inputs.items()}
    return tuple(map(function, inputs))


def named(inputs: Inputs) -> dict[str, Tensor]:
    """Return the tensors by name: that of a dict with a dot before it, ``[0]``, ``[1]`` of a tuple, none of one."""
    if isinstance(inputs, Tensor):
        return {"": inputs}
    if isinstance(inputs, dict):
        return {f".{name}": tensor for name, tensor in inputs.items()}
    return {f"[{place}]": tensor for place, tensor in enumerate(inputs)}


def from_named(found: Mapping[str, Tensor]) -> Inputs:
    """Return the inputs of which ``named`` made this, in any order."""
    if "" in found:
        return found[""]
    if all(name.startswith(".") for name in found):
        return {name[1:]: tensor for name, tensor in found.items()}
    return tuple(found[f"[{place}]"] for place in range(len(found)))


def count(inputs: Inputs) -> int:
    """Return the number of examples N; ModelError where tensors differ in it, where one has no axis or there is none.

    >>> count((torch.zeros(3, 2), torch.zeros(3)))
    3
    """
    counts = {name: len(tensor) if tensor.ndim else None for name, tensor in named(inputs).items()}
    found = set(counts.values())
    if len(found) != 1 or None in found:
        each = ", ".join(f"inputs{name} {list(tensor.shape)}" for name, tensor in named(inputs).items())
        raise ModelError(
            f"expected tensors whose first axis is the same examples, found {each or 'no tensor'}; give each example a "
            f"row in every one of them"
        )
    return int(next(iter(found)) or 0)


def rows(inputs: Inputs, chosen: slice | Tensor | Sequence[int]) -> Inputs:
    """Return some of the examples, by a slice, numbers, or bool [N]."""
    return mapped(lambda tensor: tensor[chosen], inputs)


def joined(parts: Sequence[Inputs]) -> Inputs:
    """Return consecutive examples as one batch."""
    names = [named(part) for part in parts]
    return from_named({name: torch.cat([part[name] for part in names]) for name in names[0]})


def copied(inputs: Inputs) -> Inputs:
    """Return a copy, which a model may change in place."""
    return mapped(Tensor.clone, inputs)


def on(inputs: Inputs, device: torch.device | str) -> Inputs:
    """Return the inputs on a device."""
    return mapped(lambda tensor: tensor.to(device), inputs)


def in_precision(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Return the inputs with floating-point numbers in another precision; all others stay."""
    return mapped(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor, inputs)


def moved(inputs: Inputs, device: torch.device | str, dtype: torch.dtype) -> Inputs:
    """Return the inputs on a device, in a precision: floating-point and small whole numbers are cast, WHOLE stay."""
    return mapped(lambda tensor: tensor.to(device, tensor.dtype if tensor.dtype in WHOLE else dtype), inputs)


def device_of(inputs: Inputs) -> torch.device:
    """Return where the inputs are."""
    return tensors(inputs)[0].device


def precision_of(inputs: Inputs) -> torch.dtype | None:
    """Return the type of the floating-point numbers among the inputs, None where all are whole."""
    return next((tensor.dtype for tensor in tensors(inputs) if tensor.is_floating_point()), None)


def sum_of_squares(inputs: Inputs) -> Tensor:
    """Return the sum of the squares of each example's numbers, [N] float64."""
    sums = [tensor.reshape(len(tensor), -1).double().square().sum(dim=1) for tensor in tensors(inputs)]
    return sums[0] if len(sums) == 1 else torch.stack(sums).sum(dim=0)


def features(inputs: Inputs) -> Tensor:
    """Return each example's numbers side by side, [N, F] float32: what distances between inputs are measured in."""
    flat = [tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None] for tensor in tensors(inputs)]
    return flat[0].float() if len(flat) == 1 else torch.cat([each.float() for each in flat], dim=1)


def first_not_finite(values: Tensor) -> int | None:
    """Return the first row of [N, ...] that holds a value that is not finite, or None."""
    rows = values if values.ndim > 1 else values[:, None]
    bad = torch.nonzero(~torch.isfinite(rows).flatten(1).all(dim=1)).flatten()
    return int(bad[0]) if len(bad) else None
