"""How a query's scores by a method are distributed over all training examples.

Axes: M queries, N training examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 64

CHUNK_ENTRIES = 2**24
"""Scores that are held at once: 64 MiB."""


@dataclass(frozen=True, eq=False)
class Histograms:
    """Of each query: the lowest and highest score [M] float32, counts [M, BINS] in equal bins between them, int64.

    Bin b reaches from ``low + (high - low) b / BINS`` to the next. ``above`` and ``below`` [M] count the scores above
    and below 0. A score within float32 rounding of a border may be counted beside it.
    """

    low: Tensor
    high: Tensor
    counts: Tensor
    above: Tensor
    below: Tensor

    @staticmethod
    def joined(parts: Sequence["Histograms"]) -> "Histograms":
        """Return the histograms of consecutive queries as one value."""
        names = ("low", "high", "counts", "above", "below")
        return Histograms(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def histograms(tiles: Tensor, lengths: Tensor, weights: Tensor) -> Histograms:
    """Return the histograms of ``score = tile x length x weight``, for tiles [M, N] float32, lengths [M], weights [N].

    >>> found = histograms(torch.tensor([[-1.0, 0.0, 0.5, 1.0]]), torch.ones(1), torch.ones(4))
    >>> found.low.tolist(), found.high.tolist(), found.counts[0].nonzero().flatten().tolist()
    ([-1.0], [1.0], [0, 32, 48, 63])
    >>> found.above.tolist(), found.below.tolist()
    ([2], [1])
    """
    rows = max(1, CHUNK_ENTRIES // max(1, tiles.shape[1]))
    parts = [
        _of_chunk(tiles[start : start + rows] * lengths[start : start + rows, None].float() * weights.float())
        for start in range(0, len(tiles), rows)
    ]
    return Histograms.joined(parts)


def _of_chunk(scores: Tensor) -> Histograms:
    low, high = scores.amin(dim=1), scores.amax(dim=1)
    # In float64: a difference of float32 numbers of two signs would be rounded.
    width = (high.double() - low.double())[:, None]
    place = (scores.double() - low.double()[:, None]) / torch.where(width > 0, width, 1.0) * BINS
    bins = place.long().clamp_(0, BINS - 1)
    counts = torch.zeros(len(scores), BINS, dtype=torch.int64, device=scores.device)
    counts.scatter_add_(1, bins, torch.ones_like(bins))
    return Histograms(low, high, counts, (scores > 0).sum(dim=1), (scores < 0).sum(dim=1))
