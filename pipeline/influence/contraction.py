"""How the M x N block of influences is computed: for all pairs within a proven bound, exactly for the few that matter.

Axes: M queries (explained inputs), m of them in a tile, N training examples of a shard, B pairs, O outputs, I inputs,
P parameters.
w = (s + lambda)^(-1/2) Q'g is a whitened gradient; influence is w_t . w_n, so by Cauchy-Schwarz an error that is
relative in each term of that sum is at most the same share of |w_t| |w_n|. Both are divided out before gradients meet:
a tile holds cosines, and gradients of any scale fit into float32.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.influence.dense import dense_contraction
from relatif.pipeline.influence.factored import factored_contraction
from relatif.pipeline.influence.meeting import Contraction, reciprocal
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.influence.streamed import streamed_contraction
from relatif.schemas.errors import ModelError

DENSE_PARAMETERS = 2**20
"""Gradients of at most so many parameters are laid out as rows: 4 MiB for each example."""


def contraction(
    weights: Mapping[str, Tensor], gradients: Mapping[str, LayerGradients], norms: Tensor, precision: Precision
) -> Contraction:
    """Return the cheaper contraction for a query block's gradients [M, ...] and their norms |w_t| [M], float64.

    ``weights`` [O, I] by block stand between two gradients: 1 / (s + lambda) for rotated gradients and influence, ones
    for plain inner products. A query with a zero gradient keeps scores of exactly zero. Raises ModelError where
    gradients and weights are not of the same blocks.
    """
    _check_blocks(weights, gradients)
    scale = reciprocal(norms)
    # Rank-one gradients in every layer need R products of length I for a pair; all others one of length P.
    factored = {name: gradient for name, gradient in gradients.items() if isinstance(gradient, FactoredGradients)}
    if len(factored) == len(gradients):
        return factored_contraction(factored, weights, scale, precision)
    if _is_large(gradients):
        return streamed_contraction(gradients, weights, norms)
    # The whole inverse goes to the queries' side, so that a shard's gradients need no weights.
    rows = norms.new_empty(len(norms), sum(each.numel() for each in weights.values()))
    places = rows.split([each.numel() for each in weights.values()], dim=1)
    for place, (name, each) in zip(places, weights.items(), strict=True):
        torch.mul(gradients[name].dense(), each, out=place.unflatten(1, each.shape))
    return dense_contraction(rows, norms, weights, precision.dtype)


def solved_contraction(solutions: Mapping[str, Tensor], norms: Tensor, precision: Precision) -> Contraction:
    """Return the contraction for solutions s = (H + lambda I)^-1 g_t [M, O, I] by layer and their norms |s| [M].

    It reads plain gradients, not rotated ones: influence is ``s_t . g_n``, and |s_t| and |g_n| take the places of |w_t|
    and |w_n|.
    """
    ones = {name: torch.ones_like(values[0], dtype=torch.float64) for name, values in solutions.items()}
    gradients = {name: DenseGradients(values) for name, values in solutions.items()}
    if _is_large(gradients):
        return streamed_contraction(gradients, ones, norms)
    rows = torch.cat([values.flatten(1).double() for values in solutions.values()], dim=1)
    return dense_contraction(rows, norms, ones, precision.dtype)


def _is_large(gradients: Mapping[str, LayerGradients]) -> bool:
    """Return whether gradients are too large to be laid out as dense rows."""
    parameters = sum(outputs * inputs for outputs, inputs in (each.shape for each in gradients.values()))
    return parameters > DENSE_PARAMETERS or not all(gradient.is_held for gradient in gradients.values())


def _check_blocks(weights: Mapping[str, Tensor], gradients: Mapping[str, LayerGradients]) -> None:
    expected = {name: tuple(each.shape) for name, each in weights.items()}
    found = {name: gradient.shape for name, gradient in gradients.items()}
    if expected != found:
        raise ModelError(
            f"expected gradients of the blocks {expected}, found {found}; give a curvature of the same layers"
        )
