"""Numerators by an iterative solver: (H + lambda I)^-1 g_t of some test inputs, once, as a durable piece of work.

Axes: R test inputs of a piece, P parameters side by side.
"""

import queue
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce

import pyarrow as pa
import torch
from torch import Tensor

from pipeline.curvature.eigen import by_layer, side_by_side
from pipeline.curvature.gradients import DenseGradients
from pipeline.curvature.iterative import (
    Solutions,
    check_residuals,
    conjugate_gradients,
    largest_eigenvalue,
    lissa,
    relative_residuals,
)
from pipeline.curvature.products import fisher_products
from pipeline.curvature.subject import Examples, Subject
from pipeline.datasets.shards import Shard
from pipeline.parallel import ordered_map, single_threaded_pool
from pipeline.stages.explainer import Explainer
from pipeline.stages.factors import load_curvature
from pipeline.stages.model import Source
from pipeline.storage.manifests import publish_manifest
from pipeline.storage.store import Store
from pipeline.storage.tensors import read_tensors, write_tensors
from schemas import run_directory
from schemas.config import CurvatureConfig
from schemas.manifest import Manifest
from schemas.tables import SOLUTIONS

SOLUTION, RESIDUALS, ITERATIONS = "solution", "residuals", "iterations"

PIECE_ROWS = 128
"""Test inputs that are solved for together: enough for products of matrices, few enough for a minute of work."""

PIECE_BYTES = 256 * 2**20
"""Of one vector for each of them; the solvers hold about six."""

POWER_ITERATIONS = 20
SCALE_MARGIN = 2.0
"""LiSSA's default scale over the largest eigenvalue of the whole training set: batches have larger ones."""


@dataclass(frozen=True)
class SolveUnit:
    """Rows ``start`` to ``stop`` of a test shard; ``digest`` is what their solutions depend on."""

    shard: Shard
    start: int
    stop: int
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"{self.first:08d}"

    @property
    def first(self) -> int:
        """Row of the test set of the first of them."""
        return self.shard.start + self.start


@dataclass(frozen=True)
class SolvePlan:
    """What every piece of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig

    def __call__(self, threads: int, device: str) -> "Solver":
        """Load one copy of the model for each thread, and the curvature in eigen form, in an actor."""
        task, config = self.source.load_task(), self.curvature
        copies = [self.source.load_subject(task, config, device) for _ in range(threads if device == "cpu" else 1)]
        blocks, joint = tuple(copies[0].coverage.blocks), config.eigen_method == "exact"
        curvature = load_curvature(self.source.store, blocks, config.eigen_damping, joint=joint).to(device)
        explainer = Explainer(task, copies[0], curvature, device, solves=True)
        return Solver(self, explainer, Products(self.source, self.shards, copies, single_threaded_pool(len(copies))))


class Products:
    """Products of the mean Fisher over training examples with vectors [R, P], shard by shard in several threads."""

    def __init__(
        self, source: Source, shards: Sequence[Shard], copies: Sequence[Subject], pool: ThreadPoolExecutor
    ) -> None:
        """Take a copy of the model for each thread: recording hooks sit on the model."""
        self._source, self._shards, self._pool, self._width = source, shards, pool, len(copies)
        self._task = source.load_task()
        self._shapes = copies[0].coverage.blocks
        self._device = str(next(copies[0].model.parameters()).device)
        self._copies: queue.SimpleQueue[Subject] = queue.SimpleQueue()
        for copy in copies:
            self._copies.put(copy)

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """(O, I) of every block."""
        return self._shapes

    @property
    def rows(self) -> int:
        """Number of training examples."""
        return self._shards[-1].stop

    def whole(self, vectors: Tensor) -> Tensor:
        """Return F v over the whole training set, [R, P]; shards are added in order."""
        parts = ordered_map(partial(self._of_shard, vectors), self._shards, pool=self._pool, ahead=self._width)
        return reduce(torch.add, parts) / self.rows

    def of_rows(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """Return F v over some training rows [B], in any order, [R, P]."""
        places = [
            (shard, rows[(rows >= shard.start) & (rows < shard.stop)] - shard.start) for shard in self._shards
        ]
        drawn = [(shard, some) for shard, some in places if len(some)]
        work = partial(self._of_some, vectors)
        return reduce(torch.add, ordered_map(work, drawn, pool=self._pool, ahead=self._width)) / len(rows)

    def _of_shard(self, vectors: Tensor, shard: Shard) -> Tensor:
        return self._of_some(vectors, (shard, None))

    def _of_some(self, vectors: Tensor, drawn: tuple[Shard, Tensor | None]) -> Tensor:
        shard, some = drawn
        inputs, labels = self._source.read(self._task, shard, self._device)
        rows = torch.arange(shard.start, shard.stop)
        if some is not None:
            inputs, labels, rows = inputs[some], labels[some], rows[some]
        with self._copy() as subject:
            found = fisher_products(subject, Examples(inputs, labels, rows), by_layer(vectors, self._shapes))
        return torch.cat([values.flatten(1) for values in found.values()], dim=1)

    @contextmanager
    def _copy(self) -> Iterator[Subject]:
        copy = self._copies.get()
        try:
            yield copy
        finally:
            self._copies.put(copy)
