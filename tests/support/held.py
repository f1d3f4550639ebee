"""A training set in memory for recipes, without a data set in storage."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor

from relatif.pipeline.datasets.shards import Examples
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.runs.training_sets import HeldTrainingSet


@contextmanager
def held(inputs: Tensor, labels: Tensor, *, shards: int = 3, threads: int = 1) -> Iterator[HeldTrainingSet]:
    """Cut examples into shards, passed over by a pool of threads."""
    parts, start = [], 0
    for some, their in zip(inputs.tensor_split(shards), labels.tensor_split(shards), strict=True):
        parts.append(Examples(some, their, start))
        start += len(their)
    with single_threaded_pool(threads) as pool:
        yield HeldTrainingSet(tuple(parts), pool, threads + 1)
