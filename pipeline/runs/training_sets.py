"""The training set as a recipe reads it: read shard by shard in every pass, or held in memory for many passes.

Axes: N examples of a shard.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from relatif.pipeline.datasets.shards import Shard, StoredExamples
from relatif.pipeline.devices import Worker
from relatif.pipeline.inputs import rows
from relatif.pipeline.parallel import Item, Result, ordered_map
from relatif.pipeline.runs.source import Source
from relatif.pipeline.tasks.task import Batch


@dataclass(frozen=True)
class ShardedTrainingSet:
    """Passes over shards in index order, read anew each time; a few shards are in memory at a time."""

    source: Source
    shards: tuple[Shard, ...]
    worker: Worker
    pool: ThreadPoolExecutor

    @property
    def rows(self) -> int:
        """Number of training examples."""
        return self.shards[-1].stop

    @property
    def device(self) -> str:
        """Where a recipe may compute."""
        return self.worker.device

    def tell(self, share: float | None, text: str) -> None:
        """Say how far training is."""
        self.worker.tell(share, text)

    def batches(self, function: Callable[[Batch], Result]) -> Iterator[Result]:
        """Yield ``function(batch)`` for every shard in index order."""
        return self.map(lambda shard: function(self.source.stored(shard)), self.shards)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of ``items``, computed by several threads of one core each."""
        return ordered_map(function, items, pool=self.pool, ahead=self.worker.width + 1)


@dataclass(frozen=True)
class HeldTrainingSet:
    """A training set in memory, shard by shard as it is stored."""

    shards: tuple[StoredExamples, ...]
    worker: Worker
    pool: ThreadPoolExecutor

    @property
    def rows(self) -> int:
        """Number of training examples."""
        return sum(len(shard.labels) for shard in self.shards)

    @property
    def device(self) -> str:
        """Where a recipe may compute."""
        return self.worker.device

    def without(self, row: int) -> "HeldTrainingSet":
        """Return the set without a row of the training set; a shard that loses its only row is left out."""
        return self._of(_without(shard, row) for shard in self.shards)

    def only(self, members: Tensor) -> "HeldTrainingSet":
        """Return the set of the rows that are ``members`` [n] bool; a shard that has none of them is left out."""
        return self._of(_only(shard, members) for shard in self.shards)

    def tell(self, share: float | None, text: str) -> None:
        """Say how far training is."""
        self.worker.tell(share, text)

    def batches(self, function: Callable[[Batch], Result]) -> Iterator[Result]:
        """Yield ``function(batch)`` for every shard in index order."""
        return self.map(function, self.shards)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of ``items``, computed by several threads of one core each."""
        return ordered_map(function, items, pool=self.pool, ahead=self.worker.width + 1)

    def _of(self, shards: Iterable[StoredExamples]) -> "HeldTrainingSet":
        return replace(self, shards=tuple(shard for shard in shards if len(shard.labels)))


def hold(source: Source, shards: tuple[Shard, ...], worker: Worker, pool: ThreadPoolExecutor) -> HeldTrainingSet:
    """Read all shards into memory."""
    return HeldTrainingSet(tuple(ordered_map(source.stored, shards, pool=pool, ahead=worker.width)), worker, pool)


def _without(shard: StoredExamples, row: int) -> StoredExamples:
    place = row - shard.start
    if not 0 <= place < len(shard.labels):
        return shard
    kept = torch.arange(len(shard.labels)) != place
    return StoredExamples(rows(shard.inputs, kept), shard.labels[kept], shard.start)


def _only(shard: StoredExamples, members: Tensor) -> StoredExamples:
    some = members[shard.start : shard.start + len(shard.labels)]
    return StoredExamples(rows(shard.inputs, some), shard.labels[some], shard.start)
