"""Which labels the Fisher takes its expectation over, and with what weights.

Axes: N examples, C classes. Every kind is a list of terms: the curvature is the mean over examples of the sum over
terms of ``weight * g g'``, with g the gradient of the loss of the term's label.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""From outputs [N, ...] and labels [N] to losses [N] in nats."""

MIX_1, MIX_2, MIX_3 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The increment and the two multipliers of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers."""


@dataclass(frozen=True)
class Fisher:
    """The expectation of Eq. 7: ``exact`` sums over the model's labels, ``sampled`` draws them, ``empirical`` is the
    second moment at the data's own labels.

    A drawn label depends on ``seed``, the example's row in its data set and the number of the draw, on nothing else.
    """

    class_count: int
    kind: Literal["exact", "sampled", "empirical"] = "exact"
    samples: int = 1
    seed: int = 0

    @property
    def text(self) -> str:
        """Return what tables say of it."""
        return {
            "exact": "exact expectation over the model's labels, inputs of the training set",
            "sampled": f"{self.samples} label(s) drawn from the model for each training input, seed {self.seed}",
            "empirical": "empirical: labels of the training set",
        }[self.kind]


def fisher_terms(
    fisher: Fisher, loss: PerExampleLoss, outputs: Tensor, labels: Tensor, *, first_index: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield targets [N] int64 and weights [N] of each term, for outputs [N, ...] of examples from ``first_index`` on.

    The probability of a label is ``exp(-loss)``, so the loss is to be a negative log-likelihood in nats.
    """
    if fisher.kind == "empirical":
        yield labels, torch.ones(len(labels), dtype=outputs.dtype, device=outputs.device)
    elif fisher.kind == "exact":
        for label in range(fisher.class_count):
            targets = torch.full_like(labels, label)
            yield targets, (-loss(outputs.detach(), targets)).exp()
    else:
        every = [loss(outputs.detach(), torch.full_like(labels, label)) for label in range(fisher.class_count)]
        cumulative = torch.stack(every, dim=1).neg().exp().cumsum(dim=1)
        weights = torch.full((len(labels),), 1 / fisher.samples, dtype=outputs.dtype, device=outputs.device)
        rows = torch.arange(first_index, first_index + len(labels), device=outputs.device)
        for draw in range(fisher.samples):
            points = uniform(rows, fisher.seed, draw).to(cumulative) * cumulative[:, -1]
            targets = torch.searchsorted(cumulative, points[:, None]).flatten()
            yield targets.clamp(max=fisher.class_count - 1), weights


def uniform(rows: Tensor, seed: int, draw: int) -> Tensor:
    """Return one number in [0, 1) for each row [N], float64: the output of SplitMix64 at (seed, draw, row)."""
    state = _mixed(_mixed(torch.full_like(rows, seed)) + draw)
    return (_mixed(state + rows) >> 11 & (1 << 53) - 1).double() / (1 << 53)


def _mixed(state: Tensor) -> Tensor:
    """Return SplitMix64's output for 64-bit states; integers wrap around."""
    state = state + MIX_1
    state = (state ^ _shifted(state, 30)) * MIX_2
    state = (state ^ _shifted(state, 27)) * MIX_3
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shift right as unsigned integers do, without copies of the sign."""
    return state >> bits & (1 << 64 - bits) - 1
