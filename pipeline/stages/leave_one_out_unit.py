"""A unit of leave-one-out: one training example removed, one model retrained, what that changed.

Axes: N training examples of a shard. Losses and parameters are float64. The model that changes are measured from comes
out of the same retraining with nothing removed, so what is not changed by a removal has a change of exactly zero.
"""

import time
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pipeline.datasets.shards import Examples, Shard
from pipeline.parallel import single_threaded_pool
from pipeline.stages.held import HeldTrainingSet, hold
from pipeline.stages.model import Source
from pipeline.storage.manifests import publish_manifest
from pipeline.storage.tensors import read_tensors, write_tensors
from pipeline.tasks.retraining import FromScratch, leave_one_out_config
from pipeline.tasks.task import Retraining, Task, load_model
from schemas import run_directory
from schemas.config import TrainConfig
from schemas.manifest import FileReceipt, Manifest

LOSSES = "losses"
PARAMETER_CHANGE, TRAIN_LOSS_CHANGE = "parameter_change", "train_loss_change"

STATE = "state:"
"""Prefix of the model's own tensors in a file that holds others too."""


@dataclass(frozen=True)
class RemovalUnit:
    """Row ``train_index`` of the training set is left out; ``digest`` is what the result depends on."""

    train_index: int
    digest: str


@dataclass(frozen=True)
class RetrainingPlan:
    """What every removal of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    config: TrainConfig

    def __call__(self, threads: int, device: str) -> "Retrainer":
        """Load the training set, the reference and what retraining starts from in an actor; it works on the CPU."""
        task, data = self.loaded(threads)
        prepared = read_tensors(self.source.store, run_directory.PREPARED)
        return Retrainer(self, task, data, prepared, read_tensors(self.source.store, run_directory.REFERENCE))

    def reference(self, threads: int) -> list[FileReceipt]:
        """Write what every retraining starts from, and the model and losses [n] that changes are measured from."""
        task, data = self.loaded(threads)
        store = self.source.store
        trained = read_tensors(store, run_directory.CHECKPOINT)
        prepared = retraining_of(task).prepare(task, data, self.config, trained)
        state = retraining_of(task).run(task, data, self.config, prepared)
        tensors = _prefixed(state) | {LOSSES: train_losses(task, state, data)}
        return [
            write_tensors(store, run_directory.PREPARED, prepared, {}),
            write_tensors(store, run_directory.REFERENCE, tensors, {}),
        ]

    def loaded(self, threads: int) -> tuple[Task, HeldTrainingSet]:
        """Return the task and the training set, computed by as many threads."""
        return self.source.load_task(), hold(self.source, self.shards, single_threaded_pool(threads), threads)


@dataclass(frozen=True)
class Retrainer:
    """Leaves one example out and trains again."""

    plan: RetrainingPlan
    task: Task
    data: HeldTrainingSet
    prepared: dict[str, Tensor]
    reference: dict[str, Tensor]

    def __call__(self, unit: RemovalUnit) -> Manifest:
        """Retrain, measure, publish and prove. Raises what the task's retraining raises."""
        started = time.monotonic()
        config = leave_one_out_config(self.plan.config, self.data.rows)
        rest = self.data.without(unit.train_index)
        state = retraining_of(self.task).run(self.task, rest, config, self.prepared)
        changes = train_losses(self.task, state, self.data) - self.reference[LOSSES]
        tensors = _prefixed(state) | {
            PARAMETER_CHANGE: parameter_change(self.task, state, model_state(self.reference)),
            TRAIN_LOSS_CHANGE: changes.norm(),
        }
        store = self.plan.source.store
        proof = Manifest(
            work=f"leave out {unit.train_index}",
            digest=unit.digest,
            outputs=(write_tensors(store, run_directory.retraining_file(unit.train_index), tensors, {}),),
            seconds=round(time.monotonic() - started, 3),
        )
        publish_manifest(store, run_directory.retraining_manifest(unit.train_index), proof)
        return proof


def retraining_of(task: Task) -> Retraining:
    """Return how a task is trained again."""
    return task.retrain or FromScratch()


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


def parameter_change(task: Task, state: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """Return ``||theta' - theta||_2`` over all trainable parameters, float64."""
    with torch.random.fork_rng(devices=[]):
        names = [name for name, parameter in task.build_model().named_parameters() if parameter.requires_grad]
    changes = [(state[name].double() - reference[name].double()).flatten() for name in names]
    return torch.cat(changes).norm()


def _prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {STATE + name: value for name, value in state.items()}


@torch.no_grad()
def _losses(task: Task, model: nn.Module, batch: Examples) -> Tensor:
    inputs = task.model_inputs(batch.inputs).double()
    losses: Tensor = task.loss(model(inputs), batch.labels)
    return losses
