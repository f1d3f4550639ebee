"""Models trained again: what all retrainings of a run share, and how they are run as durable units.

Axes: N training examples of a shard. Losses and parameters are float64. The model that changes are measured from comes
out of the same retraining on the whole training set, so what a retraining does not change has a change of exactly zero.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from relatif.pipeline.cluster.pool import Build, run_units
from relatif.pipeline.cluster.session import Resources, WorkerShape, worker_shape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress
from relatif.pipeline.datasets.shards import Examples, Shard
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source, source_of
from relatif.pipeline.runs.training_sets import HeldTrainingSet, hold
from relatif.pipeline.storage.manifests import finished, publish_manifest
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.pipeline.tasks.retraining import FromScratch
from relatif.pipeline.tasks.task import Retraining, Task, load_model, load_task
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from relatif.schemas.manifest import FileReceipt, Manifest

LOSSES = "losses"

PIECE_ROWS = 256
"""Examples that a model reads at once where they are not a shard."""

STATE = "state:"
"""Prefix of the model's own tensors in a file that holds others too."""


@dataclass(frozen=True)
class RetrainingPlan:
    """What every retraining of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    config: TrainConfig

    def loaded(self, threads: int) -> "Retrainable":
        """Load the training set and what retraining starts from in an actor; it works on the CPU."""
        task, data = self._held(threads)
        return Retrainable(self, task, data, read_tensors(self.source.store, run_directory.PREPARED))

    def prepare(self, threads: int) -> FileReceipt:
        """Write what every retraining starts from."""
        task, data = self._held(threads)
        store = self.source.store
        prepared = retraining_of(task).prepare(task, data, self.config, read_tensors(store, run_directory.CHECKPOINT))
        return write_tensors(store, run_directory.PREPARED, prepared, {})

    def reference(self, threads: int) -> FileReceipt:
        """Write the model, trained again on the whole set, and losses [n], from which changes are measured."""
        held = self.loaded(threads)
        state = held.on(held.data, self.config)
        tensors = prefixed(state) | {LOSSES: train_losses(held.task, state, held.data)}
        return write_tensors(self.source.store, run_directory.REFERENCE, tensors, {})

    def _held(self, threads: int) -> tuple[Task, HeldTrainingSet]:
        """Return the task and the training set, computed by as many threads."""
        return self.source.load_task(), hold(self.source, self.shards, single_threaded_pool(threads), threads)


@dataclass(frozen=True)
class Retrainable:
    """What an actor holds to train again: the task, the whole training set and tensors by name."""

    plan: RetrainingPlan
    task: Task
    data: HeldTrainingSet
    prepared: dict[str, Tensor]

    def on(self, data: HeldTrainingSet, config: TrainConfig) -> dict[str, Tensor]:
        """Return the state of the model trained on ``data``. Raises what the task's retraining raises."""
        return retraining_of(self.task).run(self.task, data, config, self.prepared)


class RetrainingUnit(Protocol):
    """One retraining: ``digest`` is what its result depends on, ``manifest`` the path of its proof."""

    @property
    def digest(self) -> str:
        """Return the digest."""
        ...

    @property
    def manifest(self) -> str:
        """Return the path."""
        ...


def retraining_plan(run: Run) -> RetrainingPlan:
    """Return what the retrainings of a run share."""
    return RetrainingPlan(source_of(run), run.train_shards, run.config.train)


def retraining_digest(run: Run) -> Callable[..., str]:
    """Return the function that makes the digest of a retraining from what it depends on by name.

    What training depends on and the checkpoint are in it; the checkpoint's proof is read once for all retrainings.
    """
    return partial(run.digest, "train", checkpoint=run.checkpoint().outputs[0].sha256)


def retrain(
    run: Run, resources: Resources, build: Build[Any, Any], units: Sequence[RetrainingUnit], *, stage: str
) -> None:
    """Run the retrainings that are not proven yet, each a durable unit, on workers that ``build`` makes."""
    pending = [unit for unit in units if finished(run.store, unit.manifest, unit.digest) is None]
    if pending:
        _prepare(run, resources)
    with progress(stage, len(units), unit="retrainings", done=len(units) - len(pending)) as shown:
        run_units(
            build,
            pending,
            _shape(run, resources, len(pending)),
            retries=run.config.cluster.max_retries,
            done=lambda proof: shown.advance(note=f"{proof.work} in {proof.seconds:.1f} s"),
            tick=shown.tick,
        )


def reference(run: Run, resources: Resources) -> None:
    """Make the model that changes are measured from, unless it is there with proof."""
    if not _is_made(run, "reference", run_directory.REFERENCE_MANIFEST):
        _prepare(run, resources)
        _make(run, resources, "reference", retraining_plan(run).reference, run_directory.REFERENCE_MANIFEST)


def discard_prepared(run: Run) -> None:
    """Delete what retrainings start from, which may be large; the models stay, and it can be made again."""
    if load_task(run.config.task).retrain is not None:
        run.store.delete(run_directory.PREPARED)


def _prepare(run: Run, resources: Resources) -> None:
    if not _is_made(run, "prepared", run_directory.PREPARED_MANIFEST):
        _make(run, resources, "prepared", retraining_plan(run).prepare, run_directory.PREPARED_MANIFEST)


def _is_made(run: Run, what: str, manifest: str) -> bool:
    return finished(run.store, manifest, retraining_digest(run)(retraining=what)) is not None


def _make(run: Run, resources: Resources, what: str, make: Callable[[int], FileReceipt], manifest: str) -> None:
    """Make something of which there is one, on a worker, and prove it."""
    started = time.monotonic()
    threads = _shape(run, resources, 1).threads
    with progress(f"retraining: {what}", 1, unit="pieces") as shown:
        retries = run.config.cluster.max_retries
        (receipt,) = gather([submit(make, threads, threads=threads, retries=retries)], tick=shown.tick)
        shown.advance()
    seconds = round(time.monotonic() - started, 3)
    digest = retraining_digest(run)(retraining=what)
    publish_manifest(run.store, manifest, Manifest(work=what, digest=digest, outputs=(receipt,), seconds=seconds))


def retraining_text(task: Task) -> str:
    """Return how a task is trained again, as plans say it."""
    return "from scratch by the task's recipe" if task.retrain is None else "by the task's own way"


def retraining_of(task: Task) -> Retraining:
    """Return how a task is trained again."""
    return task.retrain or FromScratch()


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors under names that others in the same file don't have."""
    return {STATE + name: value for name, value in state.items()}


def model_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own tensors among those of a file."""
    return {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}


def train_losses(task: Task, state: dict[str, Tensor], data: HeldTrainingSet) -> Tensor:
    """Return the loss of every training example at its label, [n] float64."""
    losses = partial(_losses, task, load_model(task, state))
    return torch.cat(list(data.map(losses, data.shards)))


def loss_of_one(task: Task, model: nn.Module, stored: Tensor, label: int) -> float:
    """Return the loss of one stored input at a label, alone in its batch: its last bits depend on nothing else."""
    return float(_losses(task, model, Examples(stored[None], torch.tensor([label]), 0)))


def losses_of_rows(task: Task, model: nn.Module, stored: Tensor, labels: Tensor) -> Tensor:
    """Return the loss of stored inputs [R, ...] at labels [R], [R] float64, computed in pieces."""
    pieces = zip(stored.split(PIECE_ROWS), labels.split(PIECE_ROWS), strict=True)
    return torch.cat([_losses(task, model, Examples(some, their, 0)) for some, their in pieces])


def _shape(run: Run, resources: Resources, units: int) -> WorkerShape:
    """Return workers without GPUs: retraining, like training, runs on the CPU."""
    return worker_shape(run.config.cluster.model_copy(update={"gpus_per_worker": 0.0}), resources, units)


@torch.no_grad()
def _losses(task: Task, model: nn.Module, batch: Examples) -> Tensor:
    inputs = task.model_inputs(batch.inputs).double()
    losses: Tensor = task.loss(model(inputs), batch.labels)
    return losses
