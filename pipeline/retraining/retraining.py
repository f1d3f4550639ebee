"""Models trained again: what all retrainings of a run share, and how they are run as durable units.

Axes: N training examples of a shard. Losses and parameters are float64. Changes are measured from a
model that the same retraining makes on the whole training set, so they are exactly zero where nothing changes.
Retrainings use no GPUs: they start from factors that were made in float64 on processors.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_model
from relatif.pipeline.cluster.pool import Build
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.measured import load_measurement
from relatif.pipeline.inputs import Inputs, rows
from relatif.pipeline.runs.durable import Made, Piece, Unit, complete, look_up
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source, model_examples
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.runs.training_sets import HeldTrainingSet, hold
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors, write_tensors
from relatif.pipeline.tasks.retraining import FromScratch
from relatif.pipeline.tasks.task import Batch, Retraining, Task, load_model
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from relatif.schemas.manifest import FileReceipt

LOSSES = "losses"

LOSS_ROWS = 256
"""Examples that a model reads at once where they don't come as shards."""

STATE = "state:"
"""Prefix of the model's own tensors in a file that holds others too."""

U = TypeVar("U", bound=Unit)


@dataclass(frozen=True)
class RetrainingPlan:
    """What every retraining of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    config: TrainConfig

    def load(self, worker: Worker) -> "RetrainingSession":
        """Load the training set and what retraining starts from, in an actor."""
        task, data = self.training_set(worker)
        store = self.source.store
        prepared = read_proven_tensors(store, run_directory.PREPARED, run_directory.PREPARED_MANIFEST)
        return RetrainingSession(self, task, data, prepared)

    def training_set(self, worker: Worker) -> tuple[Task, HeldTrainingSet]:
        """Return the task and the training set in memory."""
        return self.source.load_task(), hold(self.source, self.shards, worker, worker.pool())


@dataclass(frozen=True)
class RetrainingSession:
    """What an actor holds to train again: the task, the whole training set and tensors by name."""

    plan: RetrainingPlan
    task: Task
    data: HeldTrainingSet
    prepared: dict[str, Tensor]

    def on(self, data: HeldTrainingSet, config: TrainConfig) -> dict[str, Tensor]:
        """Return the state of the model trained on ``data``. Raises what the task's retraining raises."""
        return retraining_of(self.task).run(self.task, data, config, self.prepared)


@dataclass(frozen=True)
class PreparedStart:
    """Writes what every retraining starts from."""

    plan: RetrainingPlan

    def __call__(self, worker: Worker) -> partial[Made]:
        """Return the function that makes the only unit."""
        return partial(self._make, worker)

    def _make(self, worker: Worker, _: Piece) -> Made:
        task, data = self.plan.training_set(worker)
        store = self.plan.source.store
        trained = read_proven_tensors(store, run_directory.CHECKPOINT, run_directory.CHECKPOINT_MANIFEST)
        prepared = retraining_of(task).prepare(task, data, self.plan.config, trained)
        return Made((write_tensors(store, run_directory.PREPARED, prepared, {}),))


@dataclass(frozen=True)
class Reference:
    """Writes the model, trained again on the whole set, and losses [n], from which changes are measured."""

    plan: RetrainingPlan

    def __call__(self, worker: Worker) -> partial[Made]:
        """Return the function that makes the only unit."""
        return partial(self._make, worker)

    def _make(self, worker: Worker, _: Piece) -> Made:
        return Made((write_reference(self.plan.load(worker)),))


def write_reference(held: RetrainingSession) -> FileReceipt:
    """Train again on the whole training set, and write the model with its losses."""
    state = held.on(held.data, held.plan.config)
    tensors = prefixed(state) | {LOSSES: train_losses(held.task, state, held.data)}
    return write_tensors(held.plan.source.store, run_directory.REFERENCE, tensors, {})


def retraining_plan(run: Run) -> RetrainingPlan:
    """Return what the retrainings of a run share."""
    return RetrainingPlan(run.source, run.train_shards, run.config.train)


def retraining_digest(stage: StageRun, **depends: object) -> str:
    """Return the digest of a retraining: what training depends on, the checkpoint, and ``depends``.

    It does not depend on the stage that asks, so stages share retrainings.
    """
    # The stage that comes after no other is training.
    train = next(each for each in stage.stage.before if not each.after)
    settings, code = train.all_settings, stage.run.code(__name__)
    depends["checkpoint"] = stage.checkpoint
    return stage.run.digest("retraining", settings=settings, code=code, parts=("train",), **depends)


def retrain(stage: StageRun, build: Build[U, Made], units: Sequence[U], *, title: str) -> None:
    """Run the retrainings that are not proven yet, each a durable unit, on workers that ``build`` makes."""
    found = look_up(stage.run.store, units)
    if found.pending:
        _prepare(stage)
    complete(found, build, stage.cluster.without_gpus(), title=title, counted="retrainings")


def reference(stage: StageRun) -> None:
    """Make the model that changes are measured from, unless it is there with proof."""
    piece = Piece("reference", run_directory.REFERENCE_MANIFEST, retraining_digest(stage, retraining="reference"))
    found = look_up(stage.run.store, [piece])
    if found.pending:
        _prepare(stage)
        build = Reference(retraining_plan(stage.run))
        complete(found, build, stage.cluster.without_gpus(), title="retraining: reference", counted="pieces")


def read_reference(store: Store) -> dict[str, Tensor]:
    """Return the model that changes are measured from, with its losses; StorageError where it is not whole."""
    return read_proven_tensors(store, run_directory.REFERENCE, run_directory.REFERENCE_MANIFEST)


def discard_prepared(run: Run) -> None:
    """Delete what retrainings start from, which may be large; the models stay, and it can be made again."""
    if run.task.retrain is not None:
        run.store.delete(run_directory.PREPARED_MANIFEST)  # first: a proof never names what is not there
        run.store.delete(run_directory.PREPARED)


def retraining_text(task: Task) -> str:
    """Return how a task is trained again, as plans show it."""
    return "from scratch by the task's recipe" if task.retrain is None else "by the task's own way"


def retraining_of(task: Task) -> Retraining:
    """Return how a task is trained again."""
    return task.retrain or FromScratch()


def prefixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a model's tensors with the prefix STATE, apart from others in the same file."""
    return {STATE + name: value for name, value in state.items()}


def model_state(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the model's own tensors among those of a file."""
    return {name.removeprefix(STATE): value for name, value in tensors.items() if name.startswith(STATE)}


def train_losses(task: Task, state: dict[str, Tensor], data: HeldTrainingSet) -> Tensor:
    """Return the loss of every training example at its label, [n] float64."""
    model = load_model(task, state)
    return torch.cat(list(data.map(lambda batch: _losses(task, model, batch), data.shards)))


def measured_rows(task: Task, model: nn.Module, examples: tuple[Inputs, Tensor], measurement: str = LOSS) -> Tensor:
    """Return what is measured of stored inputs [R, ...] at explained targets [R, ...], [R] float64.

    LOSS_ROWS go through the model at a time; the last bits of a row that comes alone depend on nothing else.
    """
    stored, targets = examples
    cuts = [slice(start, start + LOSS_ROWS) for start in range(0, len(targets), LOSS_ROWS)]
    return torch.cat([_measured(task, model, rows(stored, cut), targets[cut], measurement) for cut in cuts])


def _prepare(stage: StageRun) -> None:
    piece = Piece("prepared", run_directory.PREPARED_MANIFEST, retraining_digest(stage, retraining="prepared"))
    found = look_up(stage.run.store, [piece])
    if found.pending:
        build = PreparedStart(retraining_plan(stage.run))
        complete(found, build, stage.cluster.without_gpus(), title="retraining: prepared", counted="pieces")


def _losses(task: Task, model: nn.Module, batch: Batch) -> Tensor:
    return _measured(task, model, batch.inputs, batch.labels, LOSS)


@torch.no_grad()
def _measured(task: Task, model: nn.Module, stored: Inputs, targets: Tensor, measurement: str) -> Tensor:
    examples = model_examples(task, stored, targets, 0)
    outputs, likelihood = run_model(model, examples.inputs), task.likelihood
    if measurement != LOSS:
        return load_measurement(measurement, likelihood).values(outputs, examples.targets).double()
    losses = likelihood.losses(outputs, examples.targets)
    # Changes of losses near 0 would be lost in their rounding.
    return likelihood.refined(outputs, examples.targets, losses) if isinstance(likelihood, Categorical) else losses
