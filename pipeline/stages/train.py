"""Stage train: Parquet shards -> checkpoint."""

from dataclasses import dataclass

from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker, device_for
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import Stage, StageRun
from relatif.pipeline.runs.training_sets import ShardedTrainingSet
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from relatif.schemas.manifest import FileReceipt


@dataclass(frozen=True)
class TrainUnit:
    """All of training: one piece of work, on one worker."""

    source: Source
    shards: tuple[Shard, ...]
    config: TrainConfig
    worker: Worker

    def __call__(self) -> FileReceipt:
        """Train and publish the checkpoint."""
        task = self.source.load_task()
        with self.worker.pool() as pool:
            data = ShardedTrainingSet(self.source, self.shards, self.worker, pool)
            state = task.train(task, data, self.config)
        metadata = {"task": self.source.task, "seed": str(self.config.seed)}
        return write_tensors(self.source.store, run_directory.CHECKPOINT, state, metadata)


def train(stage: StageRun) -> Made:
    """Train the task's model on a worker and leave its checkpoint."""
    run, shape = stage.run, stage.cluster.workers(1)
    unit = TrainUnit(run.source, run.train_shards, run.config.train, Worker(shape.threads, device_for(shape.gpus)))
    with progress("train", 1, unit="models") as shown:
        retries = run.config.cluster.max_retries
        waiting = submit(unit, threads=shape.threads, gpus=shape.gpus, retries=retries)
        (receipt,) = gather([waiting], tick=shown.tick)
        shown.advance()
    return Made((receipt,))


def check_rows(run: Run) -> None:
    """Raise ConfigurationError where there are fewer training examples than the settings ask for."""
    run.dataset.shards("train", rows=run.config.data.shard_rows, limit=run.config.data.train_limit)


TRAIN = Stage(
    "train",
    train,
    run_directory.CHECKPOINT_MANIFEST,
    settings=("task", "data.train_limit", "data.shard_rows", "data.merge_classes", "data.flip_", "train."),
    lasting=True,
    check=check_rows,
)
