"""Models trained again: what all retrainings of a run share, and how they are run as durable units.

Axes: N training examples of a shard. Losses and parameters are float64. The model that changes are measured from comes
out of the same retraining on the whole training set, so what a retraining does not change has a change of exactly zero.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from pipeline.cluster.pool import Build, run_units
from pipeline.cluster.session import Resources, WorkerShape, worker_shape
from pipeline.cluster.tasks import gather, submit
from pipeline.datasets.shards import Examples, Shard
from pipeline.parallel import single_threaded_pool
from pipeline.report.console import progress
from pipeline.stages.held import HeldTrainingSet, hold
from pipeline.stages.model import Source
from pipeline.stages.run import Run
from pipeline.storage.manifests import finished, publish_manifest
from pipeline.storage.tensors import read_tensors, write_tensors
from pipeline.tasks.retraining import FromScratch
from pipeline.tasks.task import Retraining, Task, load_model
from schemas import run_directory
from schemas.config import TrainConfig
from schemas.manifest import FileReceipt, Manifest

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
        """Load the training set, the reference and what retraining starts from in an actor; it works on the CPU."""
        task, data = self._held(threads)
        store = self.source.store
        prepared, reference = (read_tensors(store, path) for path in (run_directory.PREPARED, run_directory.REFERENCE))
        return Retrainable(self, task, data, prepared, reference)

    def reference(self, threads: int) -> list[FileReceipt]:
        """Write what every retraining starts from, and the model and losses [n] that changes are measured from."""
        task, data = self._held(threads)
        store = self.source.store
        trained = read_tensors(store, run_directory.CHECKPOINT)
        prepared = retraining_of(task).prepare(task, data, self.config, trained)
        state = retraining_of(task).run(task, data, self.config, prepared)
        tensors = prefixed(state) | {LOSSES: train_losses(task, state, data)}
        return [
            write_tensors(store, run_directory.PREPARED, prepared, {}),
            write_tensors(store, run_directory.REFERENCE, tensors, {}),
        ]

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
    reference: dict[str, Tensor]

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


Unit = TypeVar("Unit", bound=RetrainingUnit)


def retraining_plan(run: Run) -> RetrainingPlan:
    """Return what the retrainings of a run share."""
    source = Source(run.store, run.data, run.dataset, run.config.task, run.config.curvature.layers)
    return RetrainingPlan(source, run.train_shards, run.config.train)


def reference(run: Run, resources: Resources, plan: RetrainingPlan) -> Manifest:
    """Return the proof of what retrainings start from and are measured from, made here where there is none."""
    digest = _reference_digest(run)
    found = finished(run.store, run_directory.REFERENCE_MANIFEST, digest)
    if found is not None:
        return found
    started = time.monotonic()
    threads = _shape(run, resources, 1).threads
    with progress("reference", 1, unit="models") as shown:
        retries = run.config.cluster.max_retries
        (outputs,) = gather([submit(plan.reference, threads, threads=threads, retries=retries)], tick=shown.tick)
        shown.advance()
    proof = Manifest(
        work="reference", digest=digest, outputs=tuple(outputs), seconds=round(time.monotonic() - started, 3)
    )
    publish_manifest(run.store, run_directory.REFERENCE_MANIFEST, proof)
    return proof


def known_reference(run: Run) -> Manifest | None:
    """Return the proof of the model that changes are measured from, even after what retrainings start from is gone."""
    deleted = (run_directory.PREPARED,)
    return finished(run.store, run_directory.REFERENCE_MANIFEST, _reference_digest(run), deleted=deleted)


def retrain(
    run: Run,
    resources: Resources,
    build: Callable[[RetrainingPlan], Build[Any, Any]],
    units_of: Callable[[Sequence[str]], Sequence[Unit]],
    *,
    stage: str,
) -> Sequence[Unit]:
    """Run the retrainings that are not proven yet, each a durable unit, and return all of them.

    ``build(plan)`` makes the workers; ``units_of(depends)`` the units, ``depends`` being the digests of what they start
    from. Where all of them were proven earlier, what they started from is not made anew.
    """
    plan, known = retraining_plan(run), known_reference(run)
    units = [] if known is None else units_of(_digests(known))
    if not units or _pending(run, units):
        units = units_of(_digests(reference(run, resources, plan)))
    pending = _pending(run, units)
    with progress(stage, len(units), unit="retrainings", done=len(units) - len(pending)) as shown:
        run_units(
            build(plan),
            pending,
            _shape(run, resources, len(pending)),
            retries=run.config.cluster.max_retries,
            done=lambda proof: shown.advance(note=f"{proof.work} in {proof.seconds:.1f} s"),
            tick=shown.tick,
        )
    return units


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


def _pending(run: Run, units: Sequence[Unit]) -> list[Unit]:
    return [unit for unit in units if finished(run.store, unit.manifest, unit.digest) is None]


def _digests(proof: Manifest) -> list[str]:
    return [output.sha256 for output in proof.outputs]


def _reference_digest(run: Run) -> str:
    return run.digest("train", retraining="reference", checkpoint=run.checkpoint().outputs[0].sha256)


def _shape(run: Run, resources: Resources, units: int) -> WorkerShape:
    """Return workers without GPUs: retraining, like training, runs on the CPU."""
    return worker_shape(run.config.cluster.model_copy(update={"gpus_per_worker": 0.0}), resources, units)


@torch.no_grad()
def _losses(task: Task, model: nn.Module, batch: Examples) -> Tensor:
    inputs = task.model_inputs(batch.inputs).double()
    losses: Tensor = task.loss(model(inputs), batch.labels)
    return losses
