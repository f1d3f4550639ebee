"""Products of the training set's mean Fisher with vectors: shards read from storage, products by several threads.

Axes: R vectors, P parameters side by side.
"""

import queue
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, reduce

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.pieces import piece_rows
from relatif.pipeline.curvature.products import fisher_products
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.parallel import Item, ordered_map
from relatif.pipeline.runs.source import Source, model_examples
from relatif.pipeline.runs.training_sets import hold
from relatif.pipeline.tasks.task import Task

RUN_ROWS = 64
"""Consecutive training rows that are drawn together."""


class FisherProducts:
    """Multiplies vectors with the mean Fisher F of the training set, or of some rows of it, without the matrix."""

    def __init__(self, source: Source, shards: Sequence[Shard], copies: Sequence[CoveredModel], worker: Worker) -> None:
        """Take a copy of the model for each of the worker's threads: recording hooks sit on a model."""
        self._source, self._shards, self._worker, self._pool = source, shards, worker, worker.pool()
        self._shapes = copies[0].coverage.blocks
        self._proven: dict[tuple[int, int], int] = {}
        self._free: queue.SimpleQueue[CoveredModel] = queue.SimpleQueue()
        for copy in copies:
            self._free.put(copy)

    @property
    def run_count(self) -> int:
        """Number of runs of RUN_ROWS consecutive rows in the training set; the last may be shorter."""
        return -(-self._shards[-1].stop // RUN_ROWS)

    def product(self, vectors: Tensor) -> Tensor:
        """Return F v for vectors [R, P]. Shards are read anew each time and added in order."""
        parts = self._map(lambda shard: self._of(vectors, self._shard(shard)), self._shards)
        return reduce(torch.add, parts) / self._shards[-1].stop

    def batch_product(self, vectors: Tensor, runs: Sequence[int]) -> Tensor:
        """Return F v over the rows of some runs, [R, P]; stored inputs are held in memory from the first call on."""
        batches = [self._run(run) for run in runs]
        parts = self._map(lambda batch: self._of(vectors, batch), batches)
        return reduce(torch.add, parts) / sum(len(batch) for batch in batches)

    def _map(self, function: Callable[[Item], Tensor], items: Iterable[Item]) -> Iterator[Tensor]:
        return ordered_map(function, items, pool=self._pool, ahead=self._worker.width)

    def _of(self, vectors: Tensor, examples: Examples) -> Tensor:
        # A solver asks for hundreds of products over the same rows: their passes are cut and proven once.
        rows = examples.first_index, len(examples)
        with self._copy() as subject:
            found = fisher_products(subject, examples, by_layer(vectors, self._shapes), proven=self._proven.get(rows))
            if rows not in self._proven:
                self._proven[rows] = piece_rows(subject, examples)
        return torch.cat([values.flatten(1) for values in found.values()], dim=1)

    def _shard(self, shard: Shard) -> Examples:
        return self._source.examples(self._task, shard, self._worker.device)

    def _run(self, run: int) -> Examples:
        inputs, labels = self._held
        rows = slice(run * RUN_ROWS, (run + 1) * RUN_ROWS)
        return model_examples(self._task, batches.rows(inputs, rows), labels[rows], rows.start, self._worker.device)

    @cached_property
    def _task(self) -> Task:
        return self._source.load_task()

    @cached_property
    def _held(self) -> tuple[Inputs, Tensor]:
        parts = hold(self._source, tuple(self._shards), self._worker, self._pool).shards
        return batches.joined([part.inputs for part in parts]), torch.cat([part.labels for part in parts])

    @contextmanager
    def _copy(self) -> Iterator[CoveredModel]:
        copy = self._free.get()
        try:
            yield copy
        finally:
            self._free.put(copy)
