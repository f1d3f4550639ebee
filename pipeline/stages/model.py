"""What workers load from storage: the task's model, and the examples of a shard as the model reads them."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.datasets.shards import PreparedDataset, Shard, read_shard
from pipeline.parallel import ordered_map
from pipeline.storage.store import Store
from pipeline.storage.tensors import read_tensors
from pipeline.tasks.task import Batch, Result, Task, load_model, load_task
from schemas import run_directory
from schemas.errors import DataError


@dataclass(frozen=True)
class Source:
    """Addresses from which a worker loads everything: it travels instead of data and models."""

    store: Store
    data: Store
    dataset: PreparedDataset
    task: str

    def load_task(self) -> Task:
        """Return the task; DataError where the data has other classes than the task."""
        task = load_task(self.task)
        if len(self.dataset.class_names) != task.class_count:
            raise DataError(
                f"expected data of {task.class_count} classes for task {self.task!r}, found {self.dataset.name} with "
                f"{len(self.dataset.class_names)}; mend data.source or task"
            )
        return task

    def load_model(self, task: Task, device: torch.device | str = "cpu") -> nn.Module:
        """Return the trained model, float64, in evaluation mode."""
        return load_model(task, read_tensors(self.store, run_directory.CHECKPOINT)).to(device)

    def read(self, task: Task, shard: Shard, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return a shard's inputs as the model reads them (float64) and its labels."""
        examples = read_shard(self.data, self.dataset, shard)
        return task.model_inputs(examples.inputs).to(device).double(), examples.labels.to(device)


@dataclass(frozen=True)
class ShardedTrainingSet:
    """The training set as a recipe sees it: passes over shards in index order, read and computed by several threads."""

    source: Source
    shards: tuple[Shard, ...]
    pool: ThreadPoolExecutor
    ahead: int

    @property
    def rows(self) -> int:
        """Number of training examples."""
        return self.shards[-1].stop

    def batches(self, function: Callable[[Batch], Result]) -> Iterator[Result]:
        """Yield ``function(batch)`` for every shard in index order; a few shards are in memory at a time."""
        return ordered_map(partial(self._apply, function), self.shards, pool=self.pool, ahead=self.ahead)

    def _apply(self, function: Callable[[Batch], Result], shard: Shard) -> Result:
        return function(read_shard(self.source.data, self.source.dataset, shard))
