"""Targets that are a row of numbers for each example, of which some may be left out.

Axes: N examples, D numbers of a target. NaN stands for a number that is left out.
"""

from collections.abc import Callable, Collection

import torch
from torch import Tensor

from relatif.schemas.errors import DataError, ModelError


def output_rows(outputs: Tensor, count: int) -> Tensor:
    """Return outputs [N, D], or [N] where D is 1, as [N, D]; ModelError for any other shape."""
    if outputs.shape[1:] != (count,) and not (count == 1 and outputs.ndim == 1):
        raise ModelError(
            f"expected the model to return {count} number(s) for each example, found outputs of shape "
            f"{list(outputs.shape)}; let it return those, or give the likelihood their number"
        )
    return outputs.reshape(len(outputs), count)


def target_rows(targets: Tensor, like: Tensor) -> Tensor:
    """Return targets [N, D], or [N] where D is 1, in the precision and shape of ``like`` [N, D].

    Whole numbers below 0 mean, as everywhere, that there is no target. Raises DataError for any other shape.
    """
    if targets.shape[1:] != like.shape[1:] and not (like.shape[1] == 1 and targets.ndim == 1):
        raise DataError(
            f"expected a target of {like.shape[1]} number(s) for each example, found shape {list(targets.shape)}; "
            f"give those, or give the likelihood their number"
        )
    rows = targets.reshape(len(targets), like.shape[1]).to(like)
    return rows if targets.is_floating_point() else rows.masked_fill(rows < 0, torch.nan)


def left_out_alike(found: Tensor, targets: Tensor) -> Tensor:
    """Return numbers ``found`` [N, D] without those that the data's targets leave out."""
    return torch.where(target_rows(targets, found).isnan(), torch.nan, found)


def no_classes_expected(class_counts: Collection[int], how: str) -> str | None:
    """Return that data without classes is needed, and how it is named, unless 0 is among its numbers of classes."""
    return None if 0 in class_counts else f"data without classes ({how})"


def present(rows: Tensor) -> Tensor:
    """Return 1 where a target's number is there and 0 where it is left out, [N, D]."""
    return (~rows.isnan()).to(rows)


def without_any(targets: Tensor) -> Tensor:
    """Return which targets have no number at all, [N] bool."""
    flat = targets.flatten(1) if targets.ndim > 1 else targets[:, None]
    return flat.isnan().all(dim=1) if flat.is_floating_point() else (flat < 0).all(dim=1)


def require(allowed: Tensor, values: Tensor, meaning: str) -> None:
    """Raise DataError, naming a value, unless all numbers [N, D] that are there are ``allowed`` [N, D] bool."""
    wrong = ~(allowed | values.isnan())
    if bool(wrong.any()):
        raise DataError(
            f"expected targets that are {meaning}, found {float(values[wrong][0]):g}; correct the data, or give the "
            f"task the likelihood of its targets"
        )


def unit_terms(scales: Tensor) -> list[Tensor]:
    """Return for each of D numbers the gradient that is ``scales`` [N, D] there and 0 elsewhere."""
    return [scales * unit for unit in torch.eye(scales.shape[1], dtype=scales.dtype, device=scales.device)]


def summed_over_lines(
    losses: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, base: Tensor, steps: Tensor, width: float
) -> Tensor:
    """Return the sum (or integral) of ``exp(-loss)`` over all targets, [N], for losses that add up over numbers.

    Targets lie at ``base`` [N, D] plus ``steps`` [S] along each axis; ``width`` is what one of them stands for. With
    ``L = sum_d L_d`` the sum over all targets is ``exp(-L(base)) prod_d sum_s exp(L(base) - L(base + s e_d)) width``.
    """
    origin = losses(outputs, base)
    total = (-origin).exp()
    for unit in torch.eye(base.shape[1], dtype=base.dtype, device=base.device):
        along = [(origin - losses(outputs, base + step * unit)).exp() for step in steps]
        total = total * torch.stack(along).sum(dim=0) * width
    return total
