"""Which training examples may be among the k best of a query: those whose upper bound reaches k lower bounds.

Axes: M queries, n training examples, k ranks.
"""

import torch
from torch import Tensor

from relatif.pipeline.influence.screening import ROUNDING, SLACK, SMALLEST, TINY

HELD_ENTRIES = 2**24
"""Bounds that are held at once."""


def score_candidates(cosines: Tensor, errors: Tensor, weights: Tensor, lengths: Tensor, k: int) -> Tensor:
    """Return which examples may be among the k best by ``cosine x weight x length``, [n] bool over all queries.

    Cosines [M, n] are known within ``errors`` [M, n]; ``weights`` [n] may be negative. A query of length 0 has scores
    of 0, of which the first k examples win.
    """
    found = torch.zeros(len(weights), dtype=torch.bool, device=cosines.device)
    weights, sizes = weights.float(), weights.abs().float()
    for rows in torch.arange(len(cosines)).split(max(1, HELD_ENTRIES // max(1, len(weights)))):
        centres = cosines[rows] * weights
        # Twice: what float32 rounds in a bound, and in a score that may equal another one.
        reach = (errors[rows] + 2 * ROUNDING) * sizes
        lowest = (centres - reach).topk(k, dim=1).values[:, -1:].double()
        slack = SMALLEST / lengths[rows, None].clamp(min=TINY) + SLACK
        reached = (lowest - slack).float()
        found |= ((centres.add_(reach) >= reached) & (lengths[rows, None] > 0)).any(dim=0)
    if bool((lengths == 0).any()):
        found[:k] = True
    return found


def near_candidates(lower: Tensor, upper: Tensor, k: int) -> Tensor:
    """Return which examples may be among the k nearest of a query, [n] bool, from bounds of distances [M, n]."""
    reached = upper.topk(k, dim=1, largest=False).values[:, -1:]
    return (lower <= reached * (1 + ROUNDING) + SLACK).any(dim=0)
