"""The k best training examples of a block of queries: pairs are bounded, then scored exactly where they may matter.

Axes: M queries (explained inputs), m of them in a tile, N training examples of a shard, B pairs, k ranks.

A tile is approximate within a proven bound, so every score has an upper bound. What can't reach the k-th best score
known so far is left out, and the rest is scored exactly.
"""

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from relatif.pipeline.devices import on_cpu
from relatif.pipeline.influence.block import QueryBlock, TrainShard
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.neighbours import negative_distances, neighbour_tile
from relatif.pipeline.influence.top_k import TopK, insert_pairs
from relatif.schemas.methods import Method

ROUNDING = 1e-6
"""Allowance for the float32 arithmetic on bounds and thresholds themselves: more than ten times its rounding."""
TINY = torch.finfo(torch.float64).tiny
SMALLEST = 2.0**-149
"""The smallest positive float32: scores that small are rounded by up to half of it."""
SLACK = 2.0**-140
"""Allowance for bounds so small that float32 no longer rounds them relative to their size."""


def score_tile(
    block: QueryBlock,
    shard: TrainShard,
    rows: slice,
    running: Mapping[str, TopK],
    floors: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Update ``running`` (in place, some rows only) with a shard.

    A pair whose bound reaches the row's threshold gets its exact score; all others are provably outside the top k.
    ``floors`` [M] by method are scores that k training examples are known to reach. Returns, for every numerator,
    ``numerator / (|w_t| |w_n|)``, [m, N] float32.
    """
    tiles = {}
    for name in block.numerators:
        pairs = _Pairs(block, shard, name, rows)
        _update(pairs, running, floors)
        tiles[name] = pairs.tile
    return tiles


def seed_tile(block: QueryBlock, shard: TrainShard, rows: slice, seeds: Mapping[str, TopK], count: int) -> None:
    """Score each row's ``count`` most promising pairs of a shard exactly, into ``seeds`` (in place, some rows only).

    Over several shards that gives nearly the final thresholds for the price of few exact scores. Any exact scores make
    valid thresholds; promising pairs make high ones.
    """
    for name in block.numerators:
        pairs = _Pairs(block, shard, name, rows)
        chosen = _union([most_promising(bounds, count) for bounds in pairs.upper_bounds().values()])
        if chosen is not None:
            pairs.score(chosen, seeds)


def score_neighbours(block: QueryBlock, shard: TrainShard, rows: slice, running: TopK) -> None:
    """Update the nearest neighbours of some queries (in place) with a shard."""
    error = block.neighbour_error + ROUNDING
    # h up to its error: the largest are the nearest.
    bounds = neighbour_tile(block.features, rows, shard.features)
    first = most_promising(bounds, running.k) if bool(running.rows(rows).threshold().isneginf().any()) else None
    if first is not None:
        _measure_pairs(block, shard, rows, running, first)
    # A neighbour at distance d has h = (|x_t|^2 - d^2) / 2. The error's part from x_t lowers the threshold, that
    # from x_n raises the bound.
    squares = block.features.squares[rows]
    thresholds = (squares - running.rows(rows).threshold().double().square()) / 2 - error / 2 * squares
    mask = bounds.add_((error / 2 * shard.features.squares).float()) >= thresholds.float()[:, None]
    # Without those of ``first``: a pair that is inserted twice would take two ranks.
    _measure_pairs(block, shard, rows, running, mask if first is None else mask & ~first)


def most_promising(values: Tensor, k: int) -> Tensor:
    """Return a mask [m, N] of each row's k largest values: scored first, they give the row a threshold."""
    mask = torch.zeros_like(values, dtype=torch.bool)
    places = values.topk(min(k, values.shape[1]), dim=1).indices
    return mask.scatter_(1, places, True)


class _Pairs:
    """Some queries against a shard by one numerator: the tile, upper bounds and exact scores."""

    def __init__(self, block: QueryBlock, shard: TrainShard, name: str, rows: slice) -> None:
        self.query, self.train, self.shard, self.rows = block.numerators[name], shard.numerators[name], shard, rows
        self.methods = block.by_numerator(name)
        self.norms = self.query.norms[rows]
        self.tile = self.train.meeting.tile(rows)

    def lengths(self, method: Method) -> Tensor:
        """Return the unit of a method's bounds, [m]: |w_t|, or 1 where the method itself divides by |w_t|."""
        return torch.ones_like(self.norms) if method.normalized else self.norms

    def upper_bounds(self) -> dict[str, Tensor]:
        """Return upper bounds of score / ``lengths``, [m, N] by method."""
        error = self.train.meeting.error(self.tile) + ROUNDING
        # The cosine lies within the error of the tile. A weight may be negative, so the error counts by its size.
        weights = {each.name: (self.shard.scales[each.name] * self.train.norms).float() for each in self.methods}
        return {name: torch.addcmul(error * weight.abs(), self.tile, weight) for name, weight in weights.items()}

    def score(self, mask: Tensor, running: Mapping[str, TopK]) -> None:
        """Put the exact scores of the pairs of a mask [m, N] among the k best of every method."""
        pairs = _places(mask)
        # Computed once for all methods that share the numerator.
        values = self.train.meeting.exact(self.tile, self.rows, pairs)
        for method in self.methods:
            scores = values * self.shard.scales[method.name][pairs[1]]
            if method.normalized:
                scores = scores * reciprocal(self.norms)[pairs[0]]
            if method.sign < 0:
                scores = scores + 0.0  # a zero numerator is a score of 0, not of -0
            _insert(running[method.name], self.rows, pairs, scores, self.shard.start)


def _update(pairs: _Pairs, running: Mapping[str, TopK], floors: Mapping[str, Tensor] | None) -> None:
    """Score the pairs of one numerator that may be among the k best of a method."""
    if not pairs.methods:
        return
    rows, bounds = pairs.rows, pairs.upper_bounds()
    unfilled = [
        method.name for method in pairs.methods if bool(_threshold(running, floors, method.name, rows).isneginf().any())
    ]
    # Without a threshold every pair would pass, so the most promising ones are scored first.
    first = _union([most_promising(bounds[name], running[name].k) for name in unfilled])
    if first is not None:
        pairs.score(first, running)
    masks = []
    for method in pairs.methods:
        # Lowered by what rounding may have added: a score equal to the threshold must pass, as it may win the tie.
        reached = _threshold(running, floors, method.name, rows).double() - SMALLEST
        masks.append(bounds[method.name] >= (reached / pairs.lengths(method).clamp(min=TINY) - SLACK).float()[:, None])
    # A pair that one method may rank is scored for all of them.
    rest = _union(masks)
    assert rest is not None
    rest = _earliest_for_zeros(rest, pairs.norms, running[pairs.methods[0].name].k)
    # Without those of ``first``: a pair that is inserted twice would take two ranks.
    pairs.score(rest if first is None else rest & ~first, running)


def _earliest_for_zeros(mask: Tensor, norms: Tensor, k: int) -> Tensor:
    """Choose a shard's first k examples for queries with a zero gradient: all scores are 0, so the earliest win."""
    columns = torch.arange(mask.shape[1], device=mask.device) < k
    return torch.where((norms > 0)[:, None], mask, columns)


def _threshold(running: Mapping[str, TopK], floors: Mapping[str, Tensor] | None, method: str, rows: slice) -> Tensor:
    reached = running[method].rows(rows).threshold()
    return reached if floors is None else torch.maximum(reached, floors[method][rows])


def _union(masks: Sequence[Tensor]) -> Tensor | None:
    return reduce(torch.logical_or, masks) if masks else None


def _measure_pairs(block: QueryBlock, shard: TrainShard, rows: slice, running: TopK, mask: Tensor) -> None:
    pairs = _places(mask)
    _insert(running, rows, pairs, negative_distances(block.features, rows, pairs, shard.features), shard.start)


def _insert(running: TopK, rows: slice, pairs: Tensor, values: Tensor, start: int) -> None:
    insert_pairs(running.rows(rows), pairs[0], values.float(), pairs[1] + start)


def _places(mask: Tensor) -> Tensor:
    """Return the set places of a mask as [2, B], row by row, as ``insert_pairs`` needs them."""
    if on_cpu(mask.device):
        # NumPy skips empty stretches of a mask several times faster than torch.nonzero.
        flat = torch.from_numpy(mask.numpy().ravel().nonzero()[0])
    else:
        flat = mask.flatten().nonzero().flatten()
    return torch.stack([flat // mask.shape[1], flat % mask.shape[1]])
