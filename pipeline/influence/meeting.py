"""How a block of query gradients meets a shard of training gradients: the interface of both forms, and what they share.

Axes: M queries (explained inputs), m of them in a tile, N training examples of a shard, B pairs, O outputs, I inputs,
P parameters.
w = (s + lambda)^(-1/2) Q'g is a whitened gradient; influence is w_t . w_n, so by Cauchy-Schwarz an error that is
relative in each term of that sum is at most the same share of |w_t| |w_n|. Both are divided out before gradients meet:
a tile holds cosines, and gradients of any scale fit into float32.
"""

from collections.abc import Mapping
from functools import reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import LayerGradients


class Meeting(Protocol):
    """A block of query gradients that meets one shard of training gradients."""

    def tile(self, rows: slice) -> Tensor:
        """Return influence / (|w_t| |w_n|) for some queries and all of the shard, [m, N] float32, within the error.

        It is zero where a gradient is.
        """
        ...

    def error(self, tile: Tensor) -> Tensor:
        """Return a bound of |tile - influence / (|w_t| |w_n|)|: of the shape [m, N], of [N], or one number for all."""
        ...

    def closer(self, rows: slice, pairs: Tensor) -> tuple[Tensor, float] | None:
        """Return cosines of pairs [2, B], float64 [B], and their error; None where only exact scores are closer."""
        ...

    def exact(self, values: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return influences of pairs (tile row, shard column) [2, B], float64 [B], as closely as this form can.

        ``values`` [B] are the tile's.
        """
        ...

    @property
    def nbytes(self) -> int:
        """Return how much memory it takes to keep the meeting for exact scores: about what the shard's side takes."""
        ...


class Contraction(Protocol):
    """A block of query gradients, ready to meet training shards."""

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> Meeting:
        """Prepare a shard's gradients with their ``norms`` [N] for this block."""
        ...


def reciprocal(values: Tensor) -> Tensor:
    """Return 1 / values, and 0 for zeros."""
    return torch.where(values > 0, 1 / torch.where(values > 0, values, 1.0), 0.0)


def whitened_norms(weights: Mapping[str, Tensor], gradients: Mapping[str, LayerGradients]) -> Tensor:
    """Return ``|w|`` of gradients, [N], for the weights [O, I] of every block."""
    return reduce(add, (gradients[name].weighted_norms(each)[0] for name, each in weights.items())).sqrt()
