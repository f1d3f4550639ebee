"""The place of training examples by input distance: 1 is the nearest of all, as the method nearest_neighbour ranks.

Axes: M queries, N training examples of a shard, R examples of each query whose places are asked for, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

DOUBLE_UNIT = 2.0**-53

SINGLE_SHARE = 2.0**-21
"""Squared distances that differ by a smaller share may be equal as float32 distances, which is what ranks."""

PAIRS_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Placed:
    """Examples whose places are counted: features of the queries [M, D], the examples' rows and distances, [M, R] each.

    Distances are float32, as ``distances`` returns them. Equal ones come in the order of rows.
    """

    features: Tensor
    rows: Tensor
    distances: Tensor

    def of(self, queries: slice) -> "Placed":
        """Return those of some queries."""
        return Placed(self.features[queries], self.rows[queries], self.distances[queries])

    def nearer(self, features: Tensor, start: int) -> Tensor:
        """Return how many of a shard's examples, [N, D] from row ``start`` on, come before each example, [M, R]."""
        mine, others = self.features.double(), features.double()
        squares = mine.square().sum(dim=1)[:, None] + others.square().sum(dim=1)
        found = squares - 2 * (mine @ others.T)
        # A sum of D products is off by up to D units of |x_t| |x_n|, which is at most half of these squares' sum.
        error = (mine.shape[1] + 8) * 4 * DOUBLE_UNIT * squares.amax(dim=1)
        reached = self.distances.double().square()
        margin = error[:, None] + SINGLE_SHARE * reached
        ordered, order = found.sort(dim=1)
        sure = torch.searchsorted(ordered, (reached - margin).contiguous())
        perhaps = torch.searchsorted(ordered, (reached + margin).contiguous(), right=True)
        counts = sure.clone()
        for query, place in (perhaps > sure).nonzero().tolist():
            near = order[query, sure[query, place] : perhaps[query, place]]
            exact = distances(self.features[query], features[near])
            own = self.distances[query, place]
            earlier = (exact == own) & (near + start < self.rows[query, place])
            counts[query, place] += int(((exact < own) | earlier).sum())
        return counts


def distances(query: Tensor, others: Tensor) -> Tensor:
    """Return the l2 distances of features [D] to [N, D] as float32 [N], each from float64 differences."""
    parts = [(query.double() - some.double()).square().sum(dim=1).sqrt() for some in others.split(PAIRS_AT_ONCE)]
    return torch.cat(parts).float() if parts else others.new_empty(0)
