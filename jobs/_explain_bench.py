"""How long explaining takes: a first answer by the command, which starts Python, and further ones in one process."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.explaining.media import media_of_rows
from relatif.schemas.errors import RelatifError

FURTHER = 20
"""Answers in one process, after a first one."""

REPEATS = 3
"""Times that the command is started."""


def time_explaining(out: str) -> None:
    """Print the seconds of a first answer and the median of further ones: for test inputs, and for a picture file."""
    run = open_finished_run(out)
    stored = run.engine.training.is_stored
    kept = f"kept gradients ({run.config.score.gradient_store_dtype})" if stored else "a pass over the training set"
    print(f"{run.config.task}: {run.scored_rows:,} examples, {kept}, {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        picture = _picture(run, Path(folder) / "input.png")
        _report("test input", _cold(out, "--test-index", "0"), _further(run, list(range(1, FURTHER + 1))))
        if picture is not None:
            with Image.open(picture) as image:
                _report("picture", _cold(out, "--input", str(picture)), _further(run, [image] * FURTHER))


def _report(what: str, first: Sequence[float], further: Sequence[float]) -> None:
    print(
        f"{what}: first answer {statistics.median(first):.2f} s (of {len(first)} starts: {min(first):.2f} to "
        f"{max(first):.2f}), further ones {1e3 * statistics.median(further):.0f} ms ({1e3 * min(further):.0f} to "
        f"{1e3 * max(further):.0f})"
    )


def _cold(out: str, *asked: str) -> list[float]:
    """Return the seconds that the command takes, from its start to its end; RelatifError where it fails."""
    command = [sys.executable, "-m", "relatif.jobs.explain", "--run", out, *asked]

    def work() -> None:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RelatifError(done.stderr.strip().removeprefix("error: "))

    return [_seconds(work) for _ in range(REPEATS)]


def _further(run: FinishedRun, inputs: Sequence[object]) -> list[float]:
    run.explain(inputs[0])
    return [_seconds(lambda one=one: run.explain(one)) for one in inputs]  # type: ignore[misc]


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _picture(run: FinishedRun, path: Path) -> Path | None:
    """Write the first test input as a picture, where it is one."""
    pixels = media_of_rows(run, "test", [0])[0].picture
    if pixels is None:
        return None
    Image.fromarray(pixels).save(path)
    return path
