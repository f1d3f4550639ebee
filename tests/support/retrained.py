"""A trained model on made-up images, to be trained again."""

from pathlib import Path

from relatif.pipeline.devices import Worker
from relatif.pipeline.retraining.retraining import PreparedStart, Reference, RetrainingPlan
from relatif.pipeline.runs.durable import Piece
from relatif.pipeline.runs.source import Source
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from relatif.schemas.manifest import FileReceipt
from tests.support.images import write_images
from tests.support.proofs import prove_files
from tests.support.runs import config, run_named

DECAY = 0.05


def trained_source(folder: Path) -> Source:
    """Train logistic regression on 200 images in four shards."""
    write_images(folder / "data", train=200)
    made = config(folder / "data", "data.shard_rows=50", "train.tolerance=1e-4", f"train.weight_decay={DECAY}")
    return run_named(made, folder / "run", "train").source


def plan_of(source: Source) -> RetrainingPlan:
    """Return how it is trained again, with the same settings."""
    return RetrainingPlan(source, source.dataset.shards("train", rows=50), TrainConfig(weight_decay=DECAY))


def start(plan: RetrainingPlan, worker: Worker) -> list[FileReceipt]:
    """Write what retrainings start from and are measured from, and return the receipts."""
    store, receipts = plan.source.store, []
    for build, proof in (
        (PreparedStart(plan), run_directory.PREPARED_MANIFEST),
        (Reference(plan), run_directory.REFERENCE_MANIFEST),
    ):
        made = build(worker)(Piece("one", proof, "digest"))
        prove_files(store, proof, made.outputs)
        receipts += made.outputs
    return receipts
