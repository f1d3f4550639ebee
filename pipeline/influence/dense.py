"""Gradients as dense rows: one float32 product for each pair, within the bound of float32 sums.

Axes: M queries, m of them in a tile, N training examples of a shard, B pairs, P parameters.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.influence.meeting import reciprocal, whitened_norms
from relatif.pipeline.influence.precision import FLOAT32_UNIT
from relatif.schemas.errors import ModelError


@dataclass(frozen=True)
class DenseContraction:
    """Gradients as dense rows: one float32 product of length P per pair, whose values are the scores.

    ``rows`` [M, P] float32 holds (s + lambda)^-1 Q'g_t / |w_t|, the layers of ``weights`` side by side; ``query_norms``
    [M] is |w_t|.
    """

    rows: Tensor
    query_norms: Tensor
    weights: Mapping[str, Tensor]
    error: float

    def norms(self, gradients: Mapping[str, LayerGradients]) -> Tensor:
        """Return |w_n|, [N]."""
        return whitened_norms(self.weights, gradients)

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> "DenseMeeting":
        """Form a shard's gradients over |w_n|, [N, P]."""
        scale = reciprocal(norms)[:, None]
        rows = torch.cat([(gradients[name].dense().flatten(1) * scale).float() for name in self.weights], 1)
        if rows.shape[1] != self.rows.shape[1]:
            raise ModelError(
                f"expected gradients of {self.rows.shape[1]} parameters, found {rows.shape[1]}; give a shard the same "
                f"layers as the query block"
            )
        return DenseMeeting(self, rows, norms)


@dataclass(frozen=True)
class DenseMeeting:
    """The block's rows beside a shard's: gradients over |w_n|, [N, P] float32, and |w_n|, [N] float64."""

    block: DenseContraction
    rows: Tensor
    norms: Tensor

    def tile(self, rows: slice) -> Tensor:
        """Return the products, [m, N]."""
        return self.block.rows[rows] @ self.rows.T

    def exact(self, tile: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return the tile's own values times both norms, [B] float64.

        Nothing is computed anew: float64 rows for one pair would cost more than a thousand entries of a tile.
        """
        return tile[pairs[0], pairs[1]].double() * self.block.query_norms[rows][pairs[0]] * self.norms[pairs[1]]


def dense_contraction(rows: Tensor, norms: Tensor, weights: Mapping[str, Tensor]) -> DenseContraction:
    """Return the contraction of rows [M, P] float32 that are divided by their norms [M] float64."""
    # A float32 sum of P products is off by up to P units; the rest is for rounding both rows.
    return DenseContraction(rows, norms, weights, error=(rows.shape[1] + 8) * FLOAT32_UNIT)
