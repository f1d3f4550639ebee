"""Stages of a run that are disturbed while they work, on nodes of their own, and compared with undisturbed ones."""

import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.support.machines import QUICK_HEALTH_CHECKS, Machines, machines
from tests.support.processes import wait_until
from tests.support.runs import MNIST_CONFIG, file_bytes
from tests.support.unhurried import UNHURRIED

SETTINGS = (
    f"task={UNHURRIED}",
    "data.shard_rows=50",
    "score.unit_rows=50",
    "score.test_block_rows=50",
    "score.top_k=10",
    "curvature.method=ekfac",
    "cluster.threads_per_worker=1",
    "cluster.shards_per_task=1",
    "leave_one_out.test_count=3",
    "linear_datamodeling.subset_count=10",
    "linear_datamodeling.test_count=5",
    'evaluate.what=["linear_datamodeling"]',
)
RESULTS = ("checkpoint/*.safetensors", "factors/*.safetensors", "tables/**/*.parquet")
SECONDS = 200


@dataclass(frozen=True)
class Disturbed:
    """A job of one stage in ``out``, which holds what the stages before it left; ``settings`` are those of its run."""

    name: str
    out: Path
    settings: list[str]

    @property
    def log(self) -> Path:
        """Where the job's lines go."""
        return self.out.with_suffix(".log")

    def start(self, there: Machines) -> subprocess.Popen[str]:
        """Start the job."""
        return there.job(self.name, MNIST_CONFIG, self.out, self.settings, self.log)

    def run(self, cores: tuple[int, ...], after: str, seconds: float, fault: Callable[[Machines], None]) -> str:
        """Run the job on nodes of so many cores; some seconds after a line comes the fault. Return the log."""
        with machines(*cores, **QUICK_HEALTH_CHECKS) as there:
            process = self.start(there)
            wait_until(lambda: after in self.log.read_text() or process.poll() is not None, timeout=SECONDS)
            time.sleep(seconds)
            assert process.poll() is None, f"the fault came too late:\n{self.log.read_text()}"
            fault(there)
            return self.ended(process)

    def ended(self, process: subprocess.Popen[str]) -> str:
        """Wait until the job has ended well and return its log."""
        try:
            process.wait(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
        assert process.returncode == 0, self.log.read_text()
        return self.log.read_text()


def seeded(before: Path | None, out: Path) -> Path:
    """Return a run's directory with what an undisturbed run left by then."""
    if before is not None:
        shutil.copytree(before, out)
    return out


def differing(found: Path, expected: Path) -> list[str]:
    """Return the names of results that are not the same bytes in both runs."""
    names = []
    for pattern in RESULTS:
        ours, theirs = file_bytes(found, pattern), file_bytes(expected, pattern)
        names += [name for name in sorted(ours.keys() | theirs.keys()) if ours.get(name) != theirs.get(name)]
    return names
