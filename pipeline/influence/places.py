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

LARGEST_WHOLE = 2.0**22
"""Whole squared distances up to here have roots that differ as float32."""


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
        if _are_whole(mine, others):
            return self._nearer_of_whole(mine, others, start)
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

    def _nearer_of_whole(self, mine: Tensor, others: Tensor, start: int) -> Tensor:
        """Return the same of features that are whole numbers, whose many equal distances are all exact."""
        count = len(others)
        found = (mine.square().sum(dim=1)[:, None] + others.square().sum(dim=1) - 2 * (mine @ others.T)).round().long()
        # Equal distances come in the order of rows: one key holds both.
        keys = (found * (count + 1) + torch.arange(count, device=found.device)).sort(dim=1).values
        reached = self.distances.double().square().round().long()
        own = reached * (count + 1) + (self.rows - start).clamp(0, count)
        return torch.searchsorted(keys, own.contiguous())


def _are_whole(mine: Tensor, others: Tensor) -> bool:
    """Return whether features are whole numbers, so small that their squared distances are told apart as float32."""
    largest = max((float(each.abs().max()) for each in (mine, others) if each.numel()), default=0.0)
    if mine.shape[1] * (2 * largest) ** 2 > LARGEST_WHOLE:
        return False
    return all(bool((each == each.round()).all()) for each in (mine, others))


def distances(query: Tensor, others: Tensor) -> Tensor:
    """Return the l2 distances of features [D] to [N, D] as float32 [N], each from float64 differences."""
    parts = [(query.double() - some.double()).square().sum(dim=1).sqrt() for some in others.split(PAIRS_AT_ONCE)]
    return torch.cat(parts).float() if parts else others.new_empty(0)
