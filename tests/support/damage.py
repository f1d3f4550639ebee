"""Runs with every kind of file, and damages to them: of a byte, of a bit, by zeros, by exchange, by loss."""

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.durable import prove
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.stages.score import plan_score
from relatif.schemas.config import RunConfig
from tests.support.images import write_images
from tests.support.runs import config, file_bytes, run_named, stage_run

TRAINING, TESTS, UNITS, ROWS = 150, 20, 6, 25
SETTINGS = (
    "data.shard_rows=25",
    "score.unit_rows=25",
    "score.top_k=5",
    "score.write_scores=true",
    "score.methods=['influence', 'l_relatif']",
    "train.tolerance=1e-3",
    "curvature.damping=0.5",
    "leave_one_out.test_count=2",
    "leave_one_out.curvatures=['identity']",
    "evaluate.what=['linear_datamodeling']",
    "linear_datamodeling.subset_count=10",
    "linear_datamodeling.test_count=3",
    "cluster.threads_per_worker=1",
)
STAGES = ("train", "factors", "score", "statistics", "leave_one_out", "evaluate")


@dataclass(frozen=True)
class Runs:
    """One run in two states, ``done`` and ``mid`` (score is unfinished), and a ``foreign`` one of other data."""

    done: Path
    mid: Path
    foreign: Path

    def state(self, when: str) -> Path:
        """Return the folder of a state."""
        return self.done if when == "done" else self.mid


def make_runs(folder: Path) -> Runs:
    """Run everything; to be called with a Ray."""
    runs = Runs(folder / "done", folder / "mid", folder / "foreign")
    for out, seed in ((runs.mid, 0), (runs.foreign, 1)):
        write_images(out / "data", train=TRAINING, test=TESTS, seed=seed, rows_per_group=ROWS)
    run_named(settings(runs.mid), runs.mid, "train", "factors")
    shutil.copytree(runs.mid, runs.done)
    half_score(runs.mid)
    run_named(settings(runs.done), runs.done, *STAGES)
    run_named(settings(runs.foreign), runs.foreign, *STAGES[:4])
    return runs


def settings(out: Path) -> RunConfig:
    """Return the settings of a run whose data lies in its own folder, as that of a published format does."""
    return config(out / "data", *SETTINGS)


def half_score(out: Path) -> None:
    """Leave a score stage of which all units but the last two are finished."""
    stage = stage_run(open_run(settings(out), str(out)), "score")
    plan = plan_score(stage)
    assert len(plan.units) == UNITS
    scorer = plan.scoring(Worker(1))
    for unit in plan.units[:-2]:
        prove(stage.run.store, unit, partial(scorer, unit))


def flip_byte(path: Path, share: float) -> None:
    """Turn all bits of the byte at a share of the file."""
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    path.write_bytes(data)


def flip_bit(path: Path, place: int) -> None:
    """Turn one bit."""
    data = bytearray(path.read_bytes())
    data[place // 8] ^= 1 << (place % 8)
    path.write_bytes(data)


def sibling(path: Path) -> Path:
    """Return another file of the same kind in the same folder."""
    return next(other for other in sorted(path.parent.glob(f"*{path.suffix}")) if other != path)


def swap(path: Path) -> None:
    """Exchange a file with a sibling."""
    other = sibling(path)
    ours, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(ours)


DAMAGES: dict[str, Callable[[Path, Path], object]] = {
    "flip 50%": lambda path, _: flip_byte(path, 0.5),
    "flip 2%": lambda path, _: flip_byte(path, 0.02),
    "flip 98%": lambda path, _: flip_byte(path, 0.98),
    "zeros": lambda path, _: path.write_bytes(bytes(path.stat().st_size)),
    "cut": lambda path, _: path.write_bytes(path.read_bytes()[:-1]),
    "delete": lambda path, _: path.unlink(),
    "foreign": lambda path, foreign: shutil.copyfile(foreign, path),
    "swap": lambda path, _: swap(path),
    "copy of a sibling": lambda path, _: shutil.copyfile(sibling(path), path),
}
"""What is done to a file, given the same file of another run too."""


@dataclass(frozen=True)
class Flip:
    """One bit of a file."""

    path: str
    place: int


def flips(folder: Path, count: int, seed: int) -> list[Flip]:
    """Return bits, a file drawn first and then a place in it, so that small files are hit as often as large ones."""
    drawn, files = random.Random(seed), file_bytes(folder)
    chosen = [drawn.choice(sorted(files)) for _ in range(count)]
    return [Flip(path, drawn.randrange(8 * len(files[path]))) for path in chosen]
