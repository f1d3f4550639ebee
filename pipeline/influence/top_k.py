"""The k best of a stream of scored pairs, exactly, with ties going to the smaller training index.

Axes: M test inputs, k ranks, B pairs, L candidates of one row.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

NO_INDEX = torch.iinfo(torch.int64).max
"""Training index of an empty rank: after every real one among equal scores."""


@dataclass(frozen=True)
class TopK:
    """Scores float32 and training indices int64, both [M, k], by falling score, then rising index.

    An empty rank holds -inf and ``NO_INDEX``.
    """

    scores: Tensor
    indices: Tensor

    @property
    def k(self) -> int:
        """Number of ranks."""
        return self.scores.shape[1]

    def rows(self, rows: slice) -> "TopK":
        """Return a view of some test inputs."""
        return TopK(self.scores[rows], self.indices[rows])

    def merge(self, other: "TopK") -> "TopK":
        """Return the best k of both; associative and commutative."""
        scores = torch.cat([self.scores, other.scores], dim=1)
        indices = torch.cat([self.indices, other.indices], dim=1)
        return TopK(*best(scores, indices, self.scores.shape[1]))

    def threshold(self) -> Tensor:
        """Return the lowest kept score of every row, [M]; -inf while a rank is empty."""
        return self.scores[:, -1]


def empty_top_k(test_count: int, k: int, device: torch.device | str = "cpu") -> TopK:
    """Return k empty ranks for every test input."""
    scores = torch.full((test_count, k), -torch.inf, device=device)
    return TopK(scores, torch.full((test_count, k), NO_INDEX, dtype=torch.int64, device=device))


def best(scores: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Return the k best of each row of [M, L] scores with their indices: by falling score, then rising index.

    >>> scores, indices = best(torch.tensor([[0.5, 2.0, 0.5]]), torch.tensor([[7, 3, 4]]), 2)
    >>> scores.tolist(), indices.tolist()
    ([[2.0, 0.5]], [[3, 4]])
    """
    # Two stable sorts: the second, by score, keeps the rising indices of equal scores.
    indices, order = indices.sort(dim=1, stable=True)
    scores, order = scores.gather(1, order).sort(dim=1, descending=True, stable=True)
    return scores[:, :k], indices.gather(1, order)[:, :k]


def insert_pairs(top_k: TopK, rows: Tensor, scores: Tensor, indices: Tensor) -> None:
    """Put scored pairs into ``top_k`` in place.

    ``rows`` [B] (test rows, rising), ``scores`` [B] float32 and ``indices`` [B] belong together. Pairs below a row's
    threshold are dropped first; a pair that equals it stays, as its index may be the smaller one.

    >>> top_k = empty_top_k(test_count=1, k=2)
    >>> for score, index in [(1.0, 5), (3.0, 6), (1.0, 2)]:
    ...     insert_pairs(top_k, torch.tensor([0]), torch.tensor([score]), torch.tensor([index]))
    >>> top_k.scores.tolist(), top_k.indices.tolist()
    ([[3.0, 1.0]], [[6, 2]])
    """
    # A row keeps its threshold or raises it, so pairs below it are out.
    keep = scores >= top_k.threshold()[rows]
    rows, scores, indices = rows[keep], scores[keep], indices[keep]
    if len(rows) == 0:
        return
    touched, line, place = in_lines(rows)
    candidates = empty_top_k(len(touched), int(place.max()) + 1, rows.device)
    candidates.scores[line, place] = scores
    candidates.indices[line, place] = indices
    kept = TopK(top_k.scores[touched], top_k.indices[touched]).merge(candidates)
    top_k.scores[touched], top_k.indices[touched] = kept.scores, kept.indices


def highest(held: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """Return the k highest values of every row, [M, k] falling, of those held and some more [B] of rows [B] (rising).

    >>> highest(torch.tensor([[3.0, 1.0]]), torch.tensor([0, 0]), torch.tensor([2.0, 0.0]))
    tensor([[3., 2.]])
    """
    keep = values > held[rows, -1]
    rows, values = rows[keep], values[keep]
    if len(rows) == 0:
        return held
    touched, line, place = in_lines(rows)
    more = values.new_full((len(touched), int(place.max()) + 1), -torch.inf)
    more[line, place] = values
    found = held.clone()
    found[touched] = torch.cat([held[touched], more], dim=1).topk(held.shape[1], dim=1).values
    return found


def in_lines(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rows that occur in rising ``rows`` [B], and for each entry which of them it is in, and where in it.

    A row's entries are consecutive: they become one line of a rectangle as wide as the longest.
    """
    touched, counts = torch.unique_consecutive(rows, return_counts=True)
    starts = counts.cumsum(0) - counts
    place = torch.arange(len(rows), device=rows.device) - starts.repeat_interleave(counts)
    return touched, torch.arange(len(touched), device=rows.device).repeat_interleave(counts), place
