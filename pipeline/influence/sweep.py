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
from relatif.pipeline.influence.screening import score_neighbours, score_tile, seed_tile
from relatif.pipeline.influence.top_k import TopK, empty_top_k
from relatif.pipeline.parallel import Item, Result, ordered_map

SEED_SHARDS = 5
"""Shards whose most promising pairs give a new block its first thresholds."""

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

    def floors(self, items: Sequence[Item]) -> dict[str, Tensor]:
        """Return scores [M] by method that k training examples reach, from the most promising pairs of some shards.

        Without them the first shards, with no good threshold yet, would let through several times more pairs.
        """
        chosen = items[:SEED_SHARDS]
        seeds = {method.name: _empty_like(self.best[method.name]) for method in self.block.methods}
        for shard, _ in ordered_map(self.prepare, chosen, pool=self.pool, ahead=1):
            # Rounded up, so that the chosen shards together fill all k ranks.
            count = max((-(-each.k // len(chosen)) for each in seeds.values()), default=0)
            # Run for its effect on ``seeds``; the deque keeps nothing.
            deque(self._tiles(partial(seed_tile, self.block, shard, seeds=seeds, count=count)), maxlen=0)
        return {name: each.threshold() for name, each in seeds.items()}

    def run(
        self, items: Sequence[Item], floors: Mapping[str, Tensor], visit: Visit[Result]
    ) -> Iterator[tuple[Described, Iterator[Result]]]:
        """Stream shards past the block, in order; the next one is prepared while the tiles of one are computed.

        Yields, for each shard, what accompanies it and the results of ``visit``; take these before the next shard.
        """
        for shard, described in ordered_map(self.prepare, items, pool=self.pool, ahead=1):
            yield described, self._tiles(partial(self._tile, shard, floors, visit))

    def _tile(self, shard: TrainShard, floors: Mapping[str, Tensor], visit: Visit[Result], rows: slice) -> Result:
        tiles = score_tile(self.block, shard, rows, self.best, floors)
        if self.block.distance is not None:
            score_neighbours(self.block, shard, rows, self.best[self.block.distance.name])
        return visit(shard, rows, tiles)

    def _tiles(self, work: Callable[[slice], Result]) -> Iterator[Result]:
        # The height does not depend on the number of threads: products of another shape may round differently.
        rows, height = self.block.rows, self.worker.tile_rows(self.block.rows)
        tiles = [slice(start, min(start + height, rows)) for start in range(0, rows, height)]
        return ordered_map(work, tiles, pool=self.pool, ahead=2 * self.worker.threads)


def empty_best(block: QueryBlock, k: int) -> dict[str, TopK]:
    """Return k empty ranks for every query and method of a block."""
    device = block.features.squares.device
    methods = block.methods if block.distance is None else (*block.methods, block.distance)
    return {method.name: empty_top_k(block.rows, k, device) for method in methods}


def _empty_like(top_k: TopK) -> TopK:
    return empty_top_k(len(top_k.scores), top_k.k, top_k.scores.device)
