"""The training set in memory, as it is stored, for work that passes over it many times.

Axes: N examples of a shard.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from relatif.pipeline.datasets.shards import Examples, Shard, read_shard
from relatif.pipeline.parallel import ordered_map
from relatif.pipeline.runs.source import Source
from relatif.pipeline.tasks.task import Batch, Item, Result


@dataclass(frozen=True)
class HeldTrainingSet:
    """A training set as a recipe sees it, shard by shard in memory, computed by several threads."""

    shards: tuple[Examples, ...]
    pool: ThreadPoolExecutor
    ahead: int

    @property
    def rows(self) -> int:
        """Number of training examples."""
        return sum(len(shard.labels) for shard in self.shards)

    def without(self, row: int) -> "HeldTrainingSet":
        """Return the set without a row of the training set; a shard that loses its only row is left out."""
        return self._of(_without(shard, row) for shard in self.shards)

    def only(self, members: Tensor) -> "HeldTrainingSet":
        """Return the set of the rows that are ``members`` [n] bool; a shard that has none of them is left out."""
        return self._of(_only(shard, members) for shard in self.shards)

    def batches(self, function: Callable[[Batch], Result]) -> Iterator[Result]:
        """Yield ``function(batch)`` for every shard in index order."""
        return self.map(function, self.shards)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of ``items``, computed by several threads of one core each."""
        return ordered_map(function, items, pool=self.pool, ahead=self.ahead)

    def _of(self, shards: Iterable[Examples]) -> "HeldTrainingSet":
        return replace(self, shards=tuple(shard for shard in shards if len(shard.labels)))


def hold(source: Source, shards: tuple[Shard, ...], pool: ThreadPoolExecutor, threads: int) -> HeldTrainingSet:
    """Read all shards."""
    read = partial(read_shard, source.data, source.dataset)
    return HeldTrainingSet(tuple(ordered_map(read, shards, pool=pool, ahead=threads)), pool, threads + 1)


def _without(shard: Examples, row: int) -> Examples:
    place = row - shard.start
    if not 0 <= place < len(shard.labels):
        return shard
    inputs, labels = (torch.cat([values[:place], values[place + 1 :]]) for values in (shard.inputs, shard.labels))
    return Examples(inputs, labels, shard.start)


def _only(shard: Examples, members: Tensor) -> Examples:
    some = members[shard.start : shard.start + len(shard.labels)]
    return Examples(shard.inputs[some], shard.labels[some], shard.start)
