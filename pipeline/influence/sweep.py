"""The pass of training shards over a block of queries: pure computation, without Ray and without storage.

Axes: M queries, m of them in a tile, N training examples of a shard, k ranks.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from torch import Tensor

from relatif.pipeline.devices import Worker
from relatif.pipeline.influence.block import QueryBlock, TrainShard
from relatif.pipeline.influence.screening import Shortlist, score_neighbours
from relatif.pipeline.influence.top_k import TopK, empty_top_k
from relatif.pipeline.parallel import Item, Result, ordered_map

WAITING_BYTES = 256 * 2**20
"""Budget of the shards that are kept for pairs that wait to be scored exactly."""

WAITING_PAIRS = 2**23
"""Budget of these pairs, over all tiles."""

WAITING_PAIR_BYTES = 16
"""What a pair takes while it waits: two places, a value and its error."""

Described = TypeVar("Described")
"""What accompanies a prepared shard through the sweep, for example its table columns."""

Prepare = Callable[[Item], tuple[TrainShard, Described]]
"""Loads the shard that an item names and makes it ready for the block."""

Visit = Callable[[TrainShard, slice, Mapping[str, Tensor]], Result]
"""Takes a finished tile: its shard, its query rows, and the tile of each numerator, [m, N]."""


@dataclass(frozen=True)
class Sweep(Generic[Item, Described]):
    """A block of queries, the best examples found for it so far, and the threads that compute.

    ``best`` [M, k] by method is updated in place: a later sweep of the same block goes on from it.
    """

    block: QueryBlock
    prepare: Prepare[Item, Described]
    best: Mapping[str, TopK]
    worker: Worker
    pool: ThreadPoolExecutor

    def run(self, items: Sequence[Item], visit: Visit[Result]) -> Iterator[tuple[Described, Iterator[Result]]]:
        """Stream shards past the block, in order; the next one is prepared while the tiles of one are computed.

        Yields, for each shard, what accompanies it and the results of ``visit``; take these before the next shard.
        ``best`` is that of all shards once the last one is taken.
        """
        count, height = self.block.rows, self.worker.tile_rows(self.block.rows)
        tiles = [slice(start, min(start + height, count)) for start in range(0, count, height)]
        lists = [Shortlist(self.block, rows, self.best) for rows in tiles]
        kept = 0
        for shard, described in ordered_map(self.prepare, items, pool=self.pool, ahead=1):
            yield described, self._each(partial(self._look, shard, visit, WAITING_PAIRS // len(lists)), lists)
            kept += shard.nbytes
            # Another shard would not fit beside those that are kept.
            if kept + shard.nbytes > WAITING_BYTES:
                self._settle(lists)
                kept = 0
        self._settle(lists)

    def _look(self, shard: TrainShard, visit: Visit[Result], most: int, shortlist: Shortlist) -> Result:
        tiles = shortlist.look(shard)
        if shortlist.pairs > most:
            shortlist.settle()
        if self.block.distance is not None:
            score_neighbours(self.block, shard, shortlist.rows, self.best[self.block.distance.name])
        return visit(shard, shortlist.rows, tiles)

    def _settle(self, lists: Sequence[Shortlist]) -> None:
        # Run for its effect on ``best``; the deque keeps nothing.
        deque(self._each(Shortlist.settle, lists), maxlen=0)

    def _each(self, work: Callable[[Shortlist], Result], lists: Sequence[Shortlist]) -> Iterator[Result]:
        return ordered_map(work, lists, pool=self.pool, ahead=2 * self.worker.threads)


def empty_best(block: QueryBlock, k: int) -> dict[str, TopK]:
    """Return k empty ranks for every query and method of a block."""
    device = block.features.squares.device
    methods = block.methods if block.distance is None else (*block.methods, block.distance)
    return {method.name: empty_top_k(block.rows, k, device) for method in methods}
