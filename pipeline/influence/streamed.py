"""Gradients of which not all entries are held: products of a block and a shard, summed part by part.

Axes: M queries, m of them in a tile, N training examples of a shard, B pairs, o x i entries of a part.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import PART_ENTRIES, LayerGradients
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.precision import FLOAT32_UNIT

PART_ROWS = 64
"""Parts are made for so many rows at least: a sum within a part then has few enough terms to stay close in float32."""


@dataclass(frozen=True)
class StreamedContraction:
    """Queries as their gradients are held; ``weights`` [O, I] by block stand between two gradients.

    ``scale`` [M] is 1 / |w_t|, ``query_norms`` [M] is |w_t|.
    """

    gradients: Mapping[str, LayerGradients]
    weights: Mapping[str, Tensor]
    scale: Tensor
    query_norms: Tensor
    error: float

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> "StreamedMeeting":
        """Keep a shard's gradients as they are held."""
        return StreamedMeeting(self, gradients, reciprocal(norms), norms)


@dataclass(frozen=True)
class StreamedMeeting:
    """The block's gradients beside a shard's, with 1 / |w_n| and |w_n|, [N] float64."""

    block: StreamedContraction
    shard: Mapping[str, LayerGradients]
    scale: Tensor
    norms: Tensor

    def tile(self, rows: slice) -> Tensor:
        """Return the products, [m, N]: each part in the gradients' precision, their sum in float64."""
        scale = self.block.scale[rows]
        total = torch.zeros(len(scale), len(self.scale), dtype=torch.float64, device=scale.device)
        for name, weights in self.block.weights.items():
            queries, training = self.block.gradients[name].rows(rows), self.shard[name]
            for part in queries.parts(max(queries.count, training.count, PART_ROWS)):
                # Scaled first, so that gradients of any size fit into float32.
                mine, other = _unit(queries.entries(part), scale), _unit(training.entries(part), self.scale)
                total += (mine * part.of(weights).to(mine.dtype)).flatten(1) @ other.flatten(1).T
        return total.float()

    def error(self, tile: Tensor) -> Tensor:
        """Return the block's bound, one number."""
        return tile.new_tensor(self.block.error)

    @property
    def nbytes(self) -> int:
        """Return the size of the gradients as they are held."""
        return sum(gradient.nbytes for gradient in self.shard.values())

    def closer(self, rows: slice, pairs: Tensor) -> None:
        """Return None."""

    def exact(self, values: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return the tile's own values times both norms, [B] float64: nothing is formed anew for single pairs."""
        return values.double() * self.block.query_norms[rows][pairs[0]] * self.norms[pairs[1]]


def streamed_contraction(
    gradients: Mapping[str, LayerGradients], weights: Mapping[str, Tensor], norms: Tensor
) -> StreamedContraction:
    """Return the contraction of a block's gradients with norms [M] float64 by weights [O, I]."""
    dtype = next(iter(gradients.values())).ones().dtype
    # Of gradients as they are held: a sum over a part is off by up to a unit for each term, and the tile is float32.
    terms = max(max(PART_ENTRIES // PART_ROWS, *gradient.shape) for gradient in gradients.values())
    error = (terms + 8) * torch.finfo(dtype).eps / 2 + 8 * FLOAT32_UNIT
    return StreamedContraction(gradients, weights, reciprocal(norms), norms, error)


def _unit(entries: Tensor, scale: Tensor) -> Tensor:
    return entries * scale[:, None, None].to(entries.dtype)
