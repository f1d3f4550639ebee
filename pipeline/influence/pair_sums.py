"""Float64 sums of some pairs at the speed of a matrix product, each rounded alike whatever else is summed with it.

Axes: B pairs, O outputs, I inputs of a layer.

A matrix product rounds an entry by the place that it has: libraries treat rows at an edge, or rows that are aligned
otherwise, by other instructions. So a product has one shape, PAIRS x I times I x O with O filled up, and the first time
it is asked whether the same row has the same sums in all places. Where it has not, each output is summed by itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import pad

from relatif.pipeline.influence.low_rank import LowRank

PAIRS = 240
"""Pairs of one product: a multiple of the 24 rows and 8 rows that libraries treat at once; they fit into a cache."""

OUTPUTS_AT_ONCE = 24
"""The number of outputs is filled up to a multiple of it, for the same reason."""

PROBES = 3
"""Rows that are tried in all places."""


WORTHWHILE_SAVING = 4
"""How many times less closer sums have to cost than exact ones."""

GATHERED = 10
"""What it costs to gather a pair's factors, in multiplications of each of their numbers."""

NEAR_ERROR = 1e-3
"""The error of closer sums: it leaves out most of what passes a screen."""


@dataclass(frozen=True, eq=False)
class PairSums:
    """Sums over a layer's entries of two rank-one gradients, weighted by C [O, I] float64."""

    weights: Tensor

    def __call__(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return ``sum_oi C[o, i] outputs[b, o] inputs[b, i]``, [PAIRS], for [PAIRS, O] and [PAIRS, I] float64."""
        if self.are_alike:
            return ((inputs @ self._filled.T)[:, : len(self.weights)] * outputs).sum(dim=1)
        total = torch.zeros_like(inputs[:, 0])
        # One output at a time, in order: a row is then summed by itself.
        for output, weights in enumerate(self.weights):
            total += outputs[:, output] * (inputs * weights).sum(dim=1)
        return total

    @cached_property
    def are_alike(self) -> bool:
        """Return whether a row's products are the same bit by bit in all places. Asked in the thread that computes."""
        generator = torch.Generator().manual_seed(0)
        rows = torch.randn(PROBES, self.weights.shape[1], dtype=torch.float64, generator=generator)
        for row in rows.to(self.weights.device):
            found = row.expand(PAIRS, -1).contiguous() @ self._filled.T
            if not torch.equal(found, found[:1].expand_as(found)):
                return False
        return True

    @cached_property
    def _filled(self) -> Tensor:
        return pad(self.weights, (0, 0, 0, -len(self.weights) % OUTPUTS_AT_ONCE))


def closest_form(forms: Sequence[LowRank], shape: torch.Size) -> LowRank | None:
    """Return the smallest form whose float64 sums take the place of most exact ones; None where exact sums are cheap.

    Of float64 sums nothing but the form's own error is left, so a pair's score is known within that share.
    """
    most = shape.numel() / (sum(shape) * WORTHWHILE_SAVING) - GATHERED
    return next((form for form in forms if form.rank <= most and form.error <= NEAR_ERROR), None)


def filled_up(pairs: Tensor) -> Tensor:
    """Return pairs [2, B], B at least 1, with the first repeated to a multiple of PAIRS: each product is of one shape.

    >>> filled_up(torch.tensor([[1, 2], [3, 4]])).shape
    torch.Size([2, 240])
    """
    missing = -pairs.shape[1] % PAIRS
    return torch.cat([pairs, pairs[:, :1].expand(2, missing)], dim=1)
