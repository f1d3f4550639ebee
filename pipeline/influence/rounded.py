"""Stored gradients, rounded: every pair within a proven bound, so that few have to be scored exactly.

Axes: M queries, N training examples of a block, O outputs, I inputs of a layer, P parameters of dense layers side by
side.
A stored gradient is g_n / |g_n|, entry by entry or as two factors for each layer, rounded to a narrow type. C stands
between two gradients: 1 / (s + lambda), or ones; w = sqrt(C) g. Both roundings are measured when they are made:

    e_n = |sqrt(C) (stored - g_n / |g_n|)| |g_n| / |w_n|
    e_t = |(rounded W_t - W_t) / sqrt(C)|, with W_t = C g_t / |w_t|

and by Cauchy-Schwarz they change the cosine of w_t and w_n by at most e_n + e_t (1 + e_n). What the products add is
bounded by the terms of their float32 sums, and by the unit of the type in which they are returned.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.precision import FLOAT32_UNIT, UPWARD

DOUBLE_EPSILON = torch.finfo(torch.float64).eps

PROBED = 4096


@dataclass(frozen=True, eq=False)
class Rounded:
    """Gradients of N examples over their lengths: the dense layers side by side [N, P], the factors of the others."""

    dense: Tensor | None
    factored: Mapping[str, tuple[Tensor, Tensor]]


def rounded(gradients: Mapping[str, LayerGradients], lengths: Tensor, dtype: torch.dtype) -> Rounded:
    """Round gradients over their lengths |g_n| [N] to a type; zeros stay zeros."""
    scale = reciprocal(lengths)
    dense, factored = [], {}
    for name, gradient in gradients.items():
        if isinstance(gradient, FactoredGradients):
            outputs, inputs = _unit_factors(gradient, scale)
            factored[name] = outputs.to(dtype), inputs.to(dtype)
        else:
            dense.append((gradient.dense() * scale[:, None, None]).flatten(1).to(dtype))
    return Rounded(torch.cat(dense, dim=1) if dense else None, factored)


def rounding_errors(
    gradients: Mapping[str, LayerGradients],
    lengths: Tensor,
    stored: Rounded,
    weights: Sequence[Mapping[str, Tensor]],
) -> list[Tensor]:
    """Return e_n [N] float64 for each of several weights C [O, I] by layer, rounded upward; 0 where a gradient is."""
    scale, place = reciprocal(lengths), 0
    total = torch.zeros(len(scale), len(weights), dtype=torch.float64, device=scale.device)
    whole = torch.zeros_like(total)
    for name, gradient in gradients.items():
        chosen = [each[name].double() for each in weights]
        if isinstance(gradient, FactoredGradients):
            exact = tuple(each.double() for each in _unit_factors(gradient, scale))
            near = tuple(each.double() for each in stored.factored[name])
            squares = _weighted(exact, exact, chosen)
            total += (squares + _weighted(near, near, chosen) - 2 * _weighted(exact, near, chosen)).clamp(min=0.0)
            # Squares that nearly cancel leave what float64 rounds in sums of so many terms.
            total += squares * (chosen[0].numel() + 64) * 4 * DOUBLE_EPSILON
        else:
            assert stored.dense is not None
            values = (gradient.dense() * scale[:, None, None]).flatten(1).double()
            apart = stored.dense[:, place : place + values.shape[1]].double().sub_(values)
            place += values.shape[1]
            columns = torch.stack([each.flatten() for each in chosen], dim=1)
            total += apart.square_() @ columns
            squares = values.square_() @ columns
        whole += squares
    return list((total.sqrt() * reciprocal(whole.sqrt()) * UPWARD).unbind(1))


@dataclass(frozen=True, eq=False)
class RoundedQueries:
    """Queries ready to meet stored gradients: W_t of the dense layers [M, P], of the others [M O, I] by layer.

    ``errors`` [M] are e_t, ``summed`` bounds what float32 sums add, ``unit`` is that of the type of the products.
    """

    dense: Tensor | None
    factored: Mapping[str, Tensor]
    errors: Tensor
    summed: float
    unit: float

    def tile(self, stored: Rounded) -> tuple[Tensor, Tensor]:
        """Return ``w_t . g_n / (|w_t| |g_n|)`` and the sum of what was rounded on the way, [N, M] float32 each."""
        total, sizes = None, None
        if stored.dense is not None:
            assert self.dense is not None
            total = (stored.dense.to(self.dense.dtype) @ self.dense.T).float()
            sizes = total.abs()
        for name, (outputs, inputs) in stored.factored.items():
            queries = self.factored[name]
            products = (inputs.to(queries.dtype) @ queries.T).float().unflatten(1, (-1, outputs.shape[1]))
            products *= outputs.float()[:, None]
            value, size = products.sum(dim=2), products.abs_().sum(dim=2)
            total, sizes = (value, size) if total is None or sizes is None else (total + value, sizes + size)
        assert total is not None
        assert sizes is not None
        return total, sizes

    def bounds(self, sizes: Tensor, errors: Tensor, ratios: Tensor) -> Tensor:
        """Return how far the cosines are off at most, [N, M], for e_n [N] and |g_n| / |w_n| [N]."""
        mine = self.errors + self.summed * (1 + self.errors)
        apart = errors[:, None] + mine[None] * (1 + errors[:, None])
        # Products come back rounded, each by a share of itself.
        return apart + self.unit * (sizes * ratios[:, None].float()).double() * (1 + self.unit)


def rounded_queries(
    gradients: Mapping[str, LayerGradients],
    weights: Mapping[str, Tensor],
    norms: Tensor,
    dtype: torch.dtype,
    layers: Collection[str],
) -> RoundedQueries:
    """Return queries for stored gradients, from their own gradients, C [O, I] by layer, and |w_t| [M].

    ``layers`` are those whose stored gradients are factors.
    """
    scale, dense, factored = reciprocal(norms), [], {}
    squares = torch.zeros_like(norms, dtype=torch.float64)
    terms = 0
    for name, gradient in gradients.items():
        weight = weights[name].double()
        exact = gradient.dense().double() * weight * scale[:, None, None]
        narrow = exact.to(dtype)
        squares += ((narrow.double() - exact).square() / weight).flatten(1).sum(dim=1)
        terms += exact.shape[2] + exact.shape[1] if name in layers else exact[0].numel()
        if name in layers:
            factored[name] = narrow.flatten(0, 1)
        else:
            dense.append(narrow.flatten(1))
    summed = (terms + 32) * FLOAT32_UNIT
    errors = squares.sqrt() * UPWARD
    return RoundedQueries(
        torch.cat(dense, dim=1) if dense else None, factored, errors, summed, torch.finfo(dtype).eps / 2
    )


def product_type(dtype: torch.dtype) -> torch.dtype:
    """Return the type in which stored rows may be multiplied: their own, where its products are summed in float32."""
    return dtype if _sums_in_single(dtype) else torch.float32


@lru_cache(maxsize=4)
def _sums_in_single(dtype: torch.dtype) -> bool:
    """Return whether this machine sums products of a type in float32: 4096 ones stay 4096 ones then."""
    ones = torch.ones(8, PROBED, dtype=dtype)
    return bool((ones @ ones.T == PROBED).all()) and bool((ones @ ones[0] == PROBED).all())


def _unit_factors(gradient: FactoredGradients, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return both factors of gradients times ``scale`` [N], the inputs with length 1."""
    lengths = gradient.inputs.norm(dim=1)
    return gradient.outputs * (lengths * scale)[:, None], gradient.inputs * reciprocal(lengths)[:, None]


def _weighted(one: tuple[Tensor, ...], other: tuple[Tensor, ...], weights: Sequence[Tensor]) -> Tensor:
    """Return ``sum_oi C[o, i] G[n, o, i] G'[n, o, i]`` of two batches of rank-one gradients, [N, several C]."""
    outputs, inputs = one[0] * other[0], one[1] * other[1]
    return torch.stack([((outputs @ weight) * inputs).sum(dim=1) for weight in weights], dim=1)


@dataclass(frozen=True, eq=False)
class RoundedFeatures:
    """Features of N examples rounded to a type, [N, D], by how far [N] (rounded upward), their squared norms [N]."""

    values: Tensor
    errors: Tensor
    squares: Tensor


def rounded_features(features: Tensor, dtype: torch.dtype) -> RoundedFeatures:
    """Round features [N, D] float32 to a type; errors and squares are float64."""
    values = features.to(dtype)
    apart = (values.double() - features.double()).square().sum(dim=1).sqrt()
    return RoundedFeatures(values, apart * UPWARD, values.double().square().sum(dim=1))


def distance_bounds(queries: RoundedFeatures, stored: RoundedFeatures) -> tuple[Tensor, Tensor]:
    """Return bounds from below and above of all l2 distances of the features before rounding, [M, N] float64 each."""
    products = (queries.values @ stored.values.to(queries.values.dtype).T).double()
    lengths = queries.squares.sqrt()[:, None] * stored.squares.sqrt()
    unit, terms = torch.finfo(queries.values.dtype).eps / 2, queries.values.shape[1] + 32
    error = 2 * (unit * (1 + unit) * products.abs() + terms * FLOAT32_UNIT * lengths * (1 + unit))
    squares = queries.squares[:, None] + stored.squares - 2 * products
    moved = queries.errors[:, None] + stored.errors
    return (squares - error).clamp(min=0).sqrt() - moved, (squares + error).clamp(min=0).sqrt() + moved
