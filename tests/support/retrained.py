"""A trained model on made-up images, to be trained again."""

from pathlib import Path

from relatif.pipeline.retraining.retraining import RetrainingPlan
from relatif.pipeline.runs.run import open_run
from relatif.pipeline.runs.running import run_stages
from relatif.pipeline.runs.source import Source
from relatif.schemas.config import TrainConfig
from tests.support.images import write_images
from tests.support.runs import config

DECAY = 0.05


def trained_source(folder: Path) -> Source:
    """Train logistic regression on 200 images in four shards."""
    write_images(folder / "data", train=200)
    made = config(folder / "data", "data.shard_rows=50", "train.tolerance=1e-4", f"train.weight_decay={DECAY}")
    run_stages(made, str(folder / "run"), ["train"])
    run = open_run(made, str(folder / "run"))
    return Source(run.store, run.data, run.dataset, run.config.task)


def plan_of(source: Source) -> RetrainingPlan:
    """Return how it is trained again, with the same settings."""
    return RetrainingPlan(source, source.dataset.shards("train", rows=50), TrainConfig(weight_decay=DECAY))
