"""A unit of leave-one-out: one training example removed, one model retrained, its changes measured."""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.devices import Worker
from relatif.pipeline.retraining.retraining import (
    LOSSES,
    RetrainingPlan,
    RetrainingSession,
    model_state,
    prefixed,
    read_reference,
    train_losses,
)
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.storage.tensors import write_tensors
from relatif.pipeline.tasks.retraining import leave_one_out_config
from relatif.pipeline.tasks.task import Task
from relatif.schemas import run_directory

PARAMETER_CHANGE, TRAIN_LOSS_CHANGE = "parameter_change", "train_loss_change"


@dataclass(frozen=True)
class RemovalUnit:
    """Row ``train_index`` of the training set is left out; ``digest`` is what the result depends on."""

    train_index: int
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"leave out {self.train_index}"

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.retraining_manifest(self.train_index)


@dataclass(frozen=True)
class RemovalPlan:
    """What every removal of a run shares."""

    retraining: RetrainingPlan

    def __call__(self, worker: Worker) -> "Remover":
        """Load what retraining needs, and what changes are measured from, in an actor."""
        held = self.retraining.load(worker)
        return Remover(held, read_reference(held.plan.source.store))


@dataclass(frozen=True)
class Remover:
    """Leaves one example out and trains again."""

    held: RetrainingSession
    reference: dict[str, Tensor]

    def __call__(self, unit: RemovalUnit) -> Made:
        """Retrain, measure and write. Raises what the task's retraining raises."""
        held = self.held
        config = leave_one_out_config(held.plan.config, held.data.rows)
        state = held.on(held.data.without(unit.train_index), config)
        changes = train_losses(held.task, state, held.data) - self.reference[LOSSES]
        tensors = prefixed(state) | {
            PARAMETER_CHANGE: parameter_change(held.task, state, model_state(self.reference)),
            TRAIN_LOSS_CHANGE: changes.norm(),
        }
        path = run_directory.retraining_file(unit.train_index)
        return Made((write_tensors(held.plan.source.store, path, tensors, {}),))


def parameter_change(task: Task, state: dict[str, Tensor], reference: dict[str, Tensor]) -> Tensor:
    """Return ``||theta' - theta||_2`` over all trainable parameters, float64."""
    with torch.random.fork_rng(devices=[]):
        names = [name for name, parameter in task.build_model().named_parameters() if parameter.requires_grad]
    changes = [(state[name].double() - reference[name].double()).flatten() for name in names]
    return torch.cat(changes).norm()
