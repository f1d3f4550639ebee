"""Small finished runs, one for each form that gradients have, for what explains further inputs."""

from dataclasses import dataclass
from pathlib import Path

from relatif.schemas.config import RunConfig
from relatif.schemas.methods import METHODS
from tests.support.images import LOGISTIC, ROWWISE, write_images
from tests.support.runs import config, run_named
from tests.support.without_ray import without_ray

TRAINING, TESTS, K = 200, 30, 7

ALL = f"score.methods={list(METHODS)}".replace("'", '"')


@dataclass(frozen=True)
class Kind:
    """A kind of run: its task and its settings."""

    task: str
    settings: tuple[str, ...]


KINDS = {
    "logistic": Kind(LOGISTIC, ()),
    "positions": Kind(ROWWISE, ()),
    "exact": Kind(ROWWISE, ("curvature.method=exact",)),
    "cg": Kind(LOGISTIC, ("curvature.method=cg",)),
}
"""Rank-one gradients, dense ones, one block that couples all layers, and numerators that are solved for."""


def configured(folder: Path, kind: str, *settings: str) -> RunConfig:
    """Return the settings of a run of a kind on the data in a folder, which is written where it is not there yet."""
    data = folder / "data"
    if not data.exists():
        write_images(data, train=TRAINING, test=TESTS, rows_per_group=10)
    small = ("data.shard_rows=50", f"score.top_k={K}", "score.unit_rows=100", "train.tolerance=1e-3", ALL)
    chosen = KINDS[kind]
    return config(data, *small, *chosen.settings, *settings, task=chosen.task)


def finished(
    folder: Path, kind: str, *settings: str, name: str = "run", stages: tuple[str, ...] = ("train", "factors", "score")
) -> Path:
    """Make a run of a kind in a folder, without Ray, and return its directory."""
    with without_ray():
        run_named(configured(folder, kind, *settings), folder / name, *stages)
    return folder / name
