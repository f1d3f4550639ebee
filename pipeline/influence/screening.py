"""The k best training examples of a block of queries: pairs are bounded, then scored exactly where they may matter.

Axes: M queries (explained inputs), m of them in a tile, N training examples of a shard, B pairs, k ranks.

A tile is approximate within a proven bound, so every score has an upper and a lower bound. What can't reach the k-th
best score known so far, or the k-th highest lower bound, is left out: k other pairs score higher. The rest waits on a
shortlist while further shards raise these floors, and what then still can be among the k best is scored exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.devices import on_cpu
from relatif.pipeline.influence.block import QueryBlock, TrainShard
from relatif.pipeline.influence.meeting import Meeting, reciprocal
from relatif.pipeline.influence.neighbours import negative_distances, neighbour_tile
from relatif.pipeline.influence.top_k import TopK, highest, in_lines, insert_pairs
from relatif.schemas.methods import Method

ROUNDING = 1e-6
"""Allowance for the float32 arithmetic on bounds and thresholds themselves: more than ten times its rounding."""
TINY = torch.finfo(torch.float64).tiny
SMALLEST = 2.0**-149
"""The smallest positive float32: scores that small are rounded by up to half of it."""
SLACK = 2.0**-140
"""Allowance for bounds so small that float32 no longer rounds them relative to their size."""


class Shortlist:
    """The pairs of some queries with training examples that may be among the k best, by numerator.

    ``running`` [M, k] by method is what exact scores are put into, in place, some rows only.
    """

    def __init__(self, block: QueryBlock, rows: slice, running: Mapping[str, TopK]) -> None:
        """Begin with no pairs."""
        self.rows = rows
        self._waiting = {name: _Waiting(block, name, rows, running) for name in block.numerators}

    def look(self, shard: TrainShard) -> dict[str, Tensor]:
        """Take what may be among the best of a shard; return ``numerator / (|w_t| |w_n|)``, [m, N] by numerator."""
        return {name: waiting.look(shard) for name, waiting in self._waiting.items()}

    @property
    def pairs(self) -> int:
        """Return how many pairs wait."""
        return sum(part.lines.numel() for waiting in self._waiting.values() for part in waiting.parts)

    def settle(self) -> None:
        """Score exactly what still may be among the best; after that no pair waits, and ``running`` is exact."""
        for waiting in self._waiting.values():
            waiting.settle()


@dataclass(frozen=True, eq=False)
class _Part:
    """Pairs of one shard that wait: places in a tile, by rising row, with its values and their errors, [B] each."""

    start: int
    meeting: Meeting
    scales: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]
    lines: Tensor
    columns: Tensor
    values: Tensor
    errors: Tensor


@dataclass(frozen=True, eq=False)
class _Pool:
    """The pairs of several parts, by rising row: places in the tile and among parts, bounds, and training rows."""

    lines: Tensor
    columns: Tensor
    values: Tensor
    errors: Tensor
    numbers: Tensor
    trains: Tensor
    places: Tensor

    @staticmethod
    def of(parts: list[_Part]) -> "_Pool":
        counts = torch.tensor([part.lines.numel() for part in parts])
        lines = torch.cat([part.lines for part in parts])
        order = lines.argsort(stable=True)
        numbers = torch.arange(len(parts)).repeat_interleave(counts).to(lines.device)[order]
        columns = torch.cat([part.columns for part in parts])[order].long()
        starts = torch.tensor([part.start for part in parts], device=lines.device)
        widths = torch.tensor([next(iter(part.scales.values())).numel() for part in parts], device=lines.device)
        return _Pool(
            lines[order].long(),
            columns,
            torch.cat([part.values for part in parts])[order],
            torch.cat([part.errors for part in parts])[order],
            numbers,
            columns + starts[numbers],
            columns + (widths.cumsum(0) - widths)[numbers],
        )


class _Waiting:
    """A shortlist's pairs of one numerator, and the k highest lower bounds of every row, [m, k] by method."""

    def __init__(self, block: QueryBlock, name: str, rows: slice, running: Mapping[str, TopK]) -> None:
        self.name, self.rows, self.methods = name, rows, block.by_numerator(name)
        self.norms = block.numerators[name].norms[rows]
        self.running = {method.name: running[method.name].rows(rows) for method in self.methods}
        self.lowest: dict[str, Tensor] = {}
        self.parts: list[_Part] = []

    def look(self, shard: TrainShard) -> Tensor:
        train = shard.numerators[self.name]
        tile = train.meeting.tile(self.rows)
        if not self.methods:
            return tile
        error = train.meeting.error(tile) + ROUNDING
        weights = {each.name: (shard.scales[each.name] * train.norms).float() for each in self.methods}
        fresh = {name for name in weights if name not in self.lowest}
        mask: Tensor | None = None
        for method in self.methods:
            weight = weights[method.name]
            # The cosine lies within the error of the tile. A weight may be negative, so the error counts by its size.
            reach = error * weight.abs()
            if method.name in fresh:
                self._begin(method.name, tile, weight, reach)
            passes = torch.addcmul(reach, tile, weight) >= self._floor(method)[:, None]
            # A pair that one method may rank is scored for all of them.
            mask = passes if mask is None else mask.logical_or_(passes)
        assert mask is not None
        pairs = _places(_earliest_for_zeros(mask, self.norms, next(iter(self.running.values())).k))
        values, errors = tile[pairs[0], pairs[1]], error.expand_as(tile)[pairs[0], pairs[1]]
        for name, weight in weights.items():
            if name not in fresh:  # whose lower bounds all counted
                lower = _lower(values, weight[pairs[1]], errors * weight[pairs[1]].abs())
                self.lowest[name] = highest(self.lowest[name], pairs[0], lower)
        lines, columns = pairs.int()
        scales = {each.name: shard.scales[each.name] for each in self.methods}
        self.parts.append(_Part(shard.start, train.meeting, scales, weights, lines, columns, values, errors))
        return tile

    def settle(self) -> None:
        parts, self.parts = [part for part in self.parts if part.lines.numel()], []
        if not parts:
            return
        pool = _Pool.of(parts)
        weights = {
            each.name: torch.cat([part.weights[each.name] for part in parts])[pool.places] for each in self.methods
        }
        alive = (self.norms == 0)[pool.lines] | self._reaching(_upper(pool, weights), pool)
        self._look_closer(pool, parts, weights, alive)
        bounds = _upper(pool, weights)
        alive &= (self.norms == 0)[pool.lines] | self._reaching(bounds, pool)
        # The most promising are scored first: what they reach leaves out most of the others.
        first = (self.norms == 0)[pool.lines]
        for method in self.methods:
            upper = torch.where(alive, bounds[method.name], -torch.inf)
            first |= most_promising(upper, pool.lines, self.running[method.name].k)
        first &= alive
        self._score(pool, parts, first)
        # Without those of ``first``: a pair that is inserted twice would take two ranks.
        self._score(pool, parts, alive & ~first & self._reaching(bounds, pool))

    def _look_closer(self, pool: _Pool, parts: list[_Part], weights: Mapping[str, Tensor], alive: Tensor) -> None:
        """Replace what is known of some pairs of a pool by closer values, where these cost less than exact scores."""
        seen = torch.zeros_like(alive)
        for number, part in enumerate(parts):
            own = (alive & (pool.numbers == number)).nonzero().flatten()
            found = part.meeting.closer(self.rows, torch.stack([pool.lines[own], pool.columns[own]]))
            if found is not None:
                pool.values[own], pool.errors[own], seen[own] = found[0].float(), found[1] + ROUNDING, True
        places = seen.nonzero().flatten()
        for name, weight in weights.items() if len(places) else ():
            lower = _lower(pool.values, weight, pool.errors * weight.abs())[places]
            # Of these pairs alone: the lower bounds so far count the same ones.
            anew = highest(torch.full_like(self.lowest[name], -torch.inf), pool.lines[places], lower)
            higher = anew[:, -1:] > self.lowest[name][:, -1:]
            self.lowest[name] = torch.where(higher, anew, self.lowest[name])

    def _begin(self, name: str, tile: Tensor, weight: Tensor, reach: Tensor) -> None:
        """Take the lower bounds of a whole tile, unless exact scores are known for every rank."""
        k = self.running[name].k
        self.lowest[name] = tile.new_full((len(tile), k), -torch.inf)
        if bool(self.running[name].threshold().isneginf().any()):
            lower = _lower(tile, weight, reach).topk(min(k, tile.shape[1]), dim=1).values
            self.lowest[name][:, : lower.shape[1]] = lower

    def _floor(self, method: Method) -> Tensor:
        """Return what a bound has to reach, [m] float32, in units of |w_t|, or of 1 where the method divides by it.

        Lowered by what rounding may have added: a score equal to the threshold must pass, as it may win the tie.
        """
        lengths = torch.ones_like(self.norms) if method.normalized else self.norms
        lengths = lengths.clamp(min=TINY)
        known = (self.running[method.name].threshold().double() - SMALLEST) / lengths
        bounded = self.lowest[method.name][:, -1].double() - SMALLEST / lengths
        return (torch.maximum(known, bounded) - SLACK).float()

    def _reaching(self, bounds: Mapping[str, Tensor], pool: _Pool) -> Tensor:
        """Return which pairs may be among the k best of a method, [B]."""
        found = torch.zeros_like(pool.lines, dtype=torch.bool)
        for method in self.methods:
            found |= bounds[method.name] >= self._floor(method)[pool.lines]
        return found

    def _score(self, pool: _Pool, parts: list[_Part], chosen: Tensor) -> None:
        """Put the exact scores of some pairs among the k best of every method."""
        places = chosen.nonzero().flatten()
        lines, columns, known, numbers = (
            each[places] for each in (pool.lines, pool.columns, pool.values, pool.numbers)
        )
        values = torch.zeros(len(places), dtype=torch.float64, device=places.device)
        for number, part in enumerate(parts):
            own = (numbers == number).nonzero().flatten()
            pairs = torch.stack([lines[own], columns[own]])
            # Computed once for all methods that share the numerator.
            values[own] = part.meeting.exact(known[own], self.rows, pairs)
        for method in self.methods:
            scale = torch.cat([part.scales[method.name] for part in parts])[pool.places[places]]
            scores = values * scale
            if method.normalized:
                scores = scores * reciprocal(self.norms)[lines]
            if method.sign < 0:
                scores = scores + 0.0  # a zero numerator is a score of 0, not of -0
            insert_pairs(self.running[method.name], lines, scores.float(), pool.trains[places])


def _upper(pool: _Pool, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return upper bounds of the pairs' scores, [B] by method, in the units of ``_Waiting._floor``."""
    return {name: torch.addcmul(pool.errors * each.abs(), pool.values, each) for name, each in weights.items()}


def _lower(values: Tensor, weight: Tensor, reach: Tensor) -> Tensor:
    """Return what scores are at least: rounded twice, as an upper bound is, and what it is compared with."""
    return torch.addcmul(-reach - ROUNDING * weight.abs(), values, weight)


def most_promising(bounds: Tensor, rows: Tensor, k: int) -> Tensor:
    """Return which pairs are among the k highest of their row, [B], for bounds [B] of rising rows [B]: no -inf."""
    touched, line, place = in_lines(rows)
    width = int(place.max()) + 1
    lines, entries = bounds.new_full((len(touched), width), -torch.inf), rows.new_zeros(len(touched), width)
    lines[line, place] = bounds
    entries[line, place] = torch.arange(len(rows), device=rows.device)
    found = torch.zeros_like(rows, dtype=torch.bool)
    found[entries.gather(1, lines.topk(min(k, width), dim=1).indices)] = True
    return found & (bounds > -torch.inf)


def score_neighbours(block: QueryBlock, shard: TrainShard, rows: slice, running: TopK) -> None:
    """Update the nearest neighbours of some queries (in place) with a shard."""
    error = block.neighbour_error + ROUNDING
    # h up to its error: the largest are the nearest.
    bounds = neighbour_tile(block.features, rows, shard.features)
    first = _nearest_so_far(bounds, running.k) if bool(running.rows(rows).threshold().isneginf().any()) else None
    if first is not None:
        _measure_pairs(block, shard, rows, running, first)
    # A neighbour at distance d has h = (|x_t|^2 - d^2) / 2. The error's part from x_t lowers the threshold, that
    # from x_n raises the bound.
    squares = block.features.squares[rows]
    thresholds = (squares - running.rows(rows).threshold().double().square()) / 2 - error / 2 * squares
    mask = bounds.add_((error / 2 * shard.features.squares).float()) >= thresholds.float()[:, None]
    # Without those of ``first``: a pair that is inserted twice would take two ranks.
    _measure_pairs(block, shard, rows, running, mask if first is None else mask & ~first)


def _nearest_so_far(values: Tensor, k: int) -> Tensor:
    """Return a mask [m, N] of each row's k largest values: measured first, they give the row a threshold."""
    mask = torch.zeros_like(values, dtype=torch.bool)
    places = values.topk(min(k, values.shape[1]), dim=1).indices
    return mask.scatter_(1, places, True)


def _earliest_for_zeros(mask: Tensor, norms: Tensor, k: int) -> Tensor:
    """Choose a shard's first k examples for queries with a zero gradient: all scores are 0, so the earliest win."""
    columns = torch.arange(mask.shape[1], device=mask.device) < k
    return torch.where((norms > 0)[:, None], mask, columns)


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
