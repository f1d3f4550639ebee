"""Stage train: Parquet shards -> checkpoint, audited before it is written."""

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from typing import Any

from torch import Tensor

from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.console import progress, say
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker, give_back_memory
from relatif.pipeline.explaining.audited import audit_trained, audit_untrained, first_rows
from relatif.pipeline.inputs import copied
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source, model_inputs
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.runs.stored_outputs import StoredOutputs, outputs_to_store, write_outputs
from relatif.pipeline.runs.training_sets import ShardedTrainingSet
from relatif.pipeline.runs.whole import require_kept
from relatif.pipeline.storage.tensors import tensor_bytes
from relatif.pipeline.tasks.files import require_files
from relatif.pipeline.tasks.imported import imported
from relatif.pipeline.tasks.named import SETTINGS
from relatif.pipeline.tasks.task import Task, load_model, recipe_of
from relatif.pipeline.tasks.trained_state import checked_state
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig

MODEL_SETTINGS = tuple(f"model.{name}" for name in SETTINGS)
"""Settings that decide what a model's outputs mean; of ``model.checkpoint`` the contents count, not the address."""

AUDIT = "audit"
"""Fact of the stage's proof: what the audit of the trained model found, as JSON."""

IMPORTED = "imported"
"""Fact of the stage's proof: what was read from ``model.checkpoint``, and what was done for it."""


@dataclass(frozen=True)
class TrainUnit:
    """All of training: one piece of work, on one worker."""

    source: Source
    shards: tuple[Shard, ...]
    test_shards: tuple[Shard, ...]
    config: RunConfig
    worker: Worker
    kept: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, _: str) -> Made:
        """Train, audit the trained model, and publish the checkpoint with outputs of some rows.

        Raises ChangedRunError where it is not the one that is ``kept``, DataError where a file that training reads is
        another one here than where the job was started.
        """
        task = self.source.load_task()
        require_files(self.source.file_hashes(task), self.files)
        with self.worker.pool() as pool:
            data = ShardedTrainingSet(self.source, self.shards, self.worker, pool)
            # A value that the model can't take, of a test input too, is told before the training, not after it.
            looks = data.map(partial(_look_at, self.source, task), (*self.shards, *self.test_shards))
            deque(looks, maxlen=0)
            state, told = self._state(task, data)
            # On one core: the stored outputs' last bits must not depend on their number.
            outputs, findings = pool.submit(partial(self._audited, task, state)).result()
        checkpoint = tensor_bytes(state, {"task": self.source.task, "seed": str(self.config.train.seed)})
        require_kept(self.kept, run_directory.CHECKPOINT, sha256(checkpoint).hexdigest())
        receipts = (
            self.source.store.publish_bytes(run_directory.CHECKPOINT, checkpoint),
            write_outputs(self.source.store, outputs),
        )
        return Made(receipts, {AUDIT: json.dumps(findings), **({IMPORTED: "; ".join(told)} if told else {})})

    def _state(self, task: Task, data: ShardedTrainingSet) -> tuple[dict[str, Tensor], tuple[str, ...]]:
        """Return the state of the trained model, and what was done where it is imported: nothing is trained then."""
        if self.source.model.checkpoint is None:
            return checked_state(task, recipe_of(task)(task, data, self.config.train)), ()
        found = imported(task, self.source.model.checkpoint)
        return checked_state(task, found.state), found.told

    def _audited(self, task: Task, state: dict[str, Tensor]) -> tuple[StoredOutputs, dict[str, Any]]:
        model = load_model(task, state).to(self.worker.device)
        findings = audit_trained(self.source, task, self.config, self.shards, self.test_shards, model)
        # Of the training part alone: the checkpoint outlives a change of the test set.
        stored = self.source.stored(first_rows(self.shards)).inputs
        outputs = outputs_to_store(model, stored, model_inputs(task, copied(stored), self.worker.device))
        del model
        # The same process goes on to other work: of a large model the audit leaves gigabytes.
        give_back_memory()
        return outputs, findings


def _look_at(source: Source, task: Task, shard: Shard) -> None:
    """Raise what reading a shard for the model raises."""
    source.examples(task, shard)


def train(stage: StageRun) -> Made:
    """Train the task's model on a worker, or import it, and leave its checkpoint."""
    run, made = stage.run, list[Made]()
    given = run.source, run.train_shards, run.test_shards, run.config
    build = partial(TrainUnit, *given, kept=stage.kept, files=run.task_files)
    work = Work(build, ["train"], "train")
    unit = "models" if run.config.model.checkpoint is None else "imported models"
    with progress("train", 1, unit=unit) as shown:
        run_units(work, stage.cluster.workers(1), done=made.append, limits=stage.cluster.limits, shown=shown)
        shown.advance()
    for line in filter(None, [made[0].facts.get(IMPORTED)]):
        say(f"train: {line}; nothing was trained")
    return made[0]


def audited(run: Run) -> dict[str, Any]:
    """Audit the untrained model before any work, and return what was found.

    Raises as ``audit_untrained`` and ``Run.imported``, and ConfigurationError where there are fewer examples than the
    settings ask for, and where nothing says how the model is trained.
    """
    if run.imported is None:
        recipe_of(run.task)
    return audit_untrained(run.source, run.task, run.config, run.train_shards, run.test_shards)


TRAIN = Stage(
    "train",
    train,
    run_directory.CHECKPOINT_MANIFEST,
    settings=(
        "task",
        *MODEL_SETTINGS,
        "data.train_limit",
        "data.shard_rows",
        "data.merge_classes",
        "data.flip_",
        "train.",
    ),
    lasting=True,
    check=audited,
    files=lambda run: run.task_files,
    parts=("train",),
)
