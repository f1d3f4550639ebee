"""Stage train: Parquet shards -> checkpoint."""

import time
from dataclasses import dataclass

from relatif.pipeline.cluster.session import Resources, worker_shape
from relatif.pipeline.cluster.tasks import gather, submit
from relatif.pipeline.console import progress
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.runs.run import Run, record
from relatif.pipeline.runs.source import ShardedTrainingSet, Source
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from relatif.schemas.manifest import FileReceipt, Manifest


@dataclass(frozen=True)
class TrainUnit:
    """All of training: one piece of work, on one worker."""

    source: Source
    shards: tuple[Shard, ...]
    config: TrainConfig
    threads: int

    def __call__(self) -> FileReceipt:
        """Train and publish the checkpoint."""
        task = self.source.load_task()
        with single_threaded_pool(self.threads) as pool:
            data = ShardedTrainingSet(self.source, self.shards, pool, ahead=self.threads + 1)
            state = task.train(task, data, self.config)
        metadata = {"task": self.source.task, "seed": str(self.config.seed)}
        return write_tensors(self.source.store, run_directory.CHECKPOINT, state, metadata)


def train(run: Run, resources: Resources) -> None:
    """Train the task's model on a worker and leave its checkpoint with proof."""
    threads = worker_shape(run.config.cluster, resources, 1).threads
    source = Source(run.store, run.data, run.dataset, run.config.task)
    unit = TrainUnit(source, run.train_shards, run.config.train, threads)
    started = time.monotonic()
    with progress("train", 1, unit="models") as shown:
        retries = run.config.cluster.max_retries
        (receipt,) = gather([submit(unit, threads=threads, retries=retries)], tick=shown.tick)
        shown.advance()
    proof = Manifest(
        work="train", digest=run.train_digest(), outputs=(receipt,), seconds=round(time.monotonic() - started, 3)
    )
    publish_manifest(run.store, run_directory.CHECKPOINT_MANIFEST, proof)
    record(run)
