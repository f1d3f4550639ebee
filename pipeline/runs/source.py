"""What workers load from storage: the task's model, and the examples of a shard as the model reads them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import Coverage, coverage
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.subject import Subject
from relatif.pipeline.datasets.shards import PreparedDataset, Shard, read_shard
from relatif.pipeline.parallel import ordered_map
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors
from relatif.pipeline.tasks.task import Batch, Item, Result, Task, load_model, load_task
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import DataError


@dataclass(frozen=True)
class Source:
    """Addresses from which a worker loads everything: it travels instead of data and models."""

    store: Store
    data: Store
    dataset: PreparedDataset
    task: str
    layers: tuple[str, ...] | None = None

    def load_task(self) -> Task:
        """Return the task; DataError where the data has other classes than the task.

        A task made for the data's own classes also learns merged ones: some of its outputs belong to no label then.
        """
        task = load_task(self.task)
        published = len(self.dataset.description.class_names)
        if task.class_count not in (published, len(self.dataset.class_names)):
            raise DataError(
                f"expected data of {task.class_count} classes for task {self.task!r}, found {self.dataset.name} with "
                f"{published}; mend data.source or task"
            )
        return task

    def load_model(self, task: Task, device: torch.device | str = "cpu") -> nn.Module:
        """Return the trained model, float64, in evaluation mode."""
        return load_model(task, read_tensors(self.store, run_directory.CHECKPOINT)).to(device)

    def coverage(self, task: Task) -> Coverage:
        """Return which parameters are explained, of a model that is not trained; ModelError as ``coverage`` raises."""
        with torch.random.fork_rng(devices=[]):
            return coverage(task.build_model(), self.layers)

    def load_subject(self, task: Task, config: CurvatureConfig, device: torch.device | str = "cpu") -> Subject:
        """Return the trained model with its covered layers, everything else frozen."""
        model = self.load_model(task, device)
        chosen = {parameter.name for parameter in coverage(model, self.layers).parameters if parameter.covered}
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in chosen)
        return Subject(model, coverage(model, self.layers), task.loss, fisher_of(task, config))

    def read(self, task: Task, shard: Shard, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
        """Return a shard's inputs as the model reads them (float64) and its labels."""
        examples = read_shard(self.data, self.dataset, shard)
        return task.model_inputs(examples.inputs).to(device).double(), examples.labels.to(device)


def source_of(run: Run) -> Source:
    """Return the addresses of a run, with the layers that it explains."""
    return Source(run.store, run.data, run.dataset, run.config.task, run.config.curvature.layers)


def fisher_of(task: Task, config: CurvatureConfig) -> Fisher:
    """Return the Fisher that the settings ask for, over the task's classes."""
    return Fisher(task.class_count, config.fisher, config.fisher_samples, config.fisher_seed)


def curvature_text(task: Task, config: CurvatureConfig) -> str:
    """Return which second moment or Hessian the curvature is, as tables say it."""
    if config.eigen_method == config.method == "identity":
        return "none"
    if config.eigen_method == "exact" and config.exact_matrix == "hessian":
        return "none: Hessian of the mean training loss"
    return fisher_of(task, config).text


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
        return self.map(partial(self._apply, function), self.shards)

    def map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(item)`` in the order of ``items``, computed by several threads of one core each."""
        return ordered_map(function, items, pool=self.pool, ahead=self.ahead)

    def _apply(self, function: Callable[[Batch], Result], shard: Shard) -> Result:
        return function(read_shard(self.source.data, self.source.dataset, shard))
