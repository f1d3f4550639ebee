"""A training set in memory for recipes, without a data set in storage."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from relatif.pipeline.datasets.shards import StoredExamples
from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.training_sets import HeldTrainingSet


@contextmanager
def held(inputs: Tensor, labels: Tensor, *, shards: int = 3, threads: int = 1) -> Iterator[HeldTrainingSet]:
    """Cut examples into shards, passed over by a pool of threads."""
    parts, start = [], 0
    for some, their in zip(inputs.tensor_split(shards), labels.tensor_split(shards), strict=True):
        parts.append(StoredExamples(some, their, start))
        start += len(their)
    worker = Worker(threads)
    with worker.pool() as pool:
        yield HeldTrainingSet(tuple(parts), worker, pool)
