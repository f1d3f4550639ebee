"""Workers that get into trouble, and cores that somebody else holds: for tests of the pool on the Ray of a test."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from relatif.pipeline.devices import Worker
from tests.support.processes import wait_until


@dataclass(frozen=True)
class Trouble:
    """Units that leave a file each; the first worker that takes unit ``at`` gets into trouble."""

    folder: Path
    at: int
    what: Callable[[Path], None]

    def __call__(self, worker: Worker) -> Callable[[int], int]:
        return self.compute

    def compute(self, unit: int) -> int:
        met = self.folder / "met"
        if unit == self.at and not met.exists():
            met.write_text(str(os.getpid()))
            self.what(self.folder)
        return unit


@dataclass(frozen=True)
class StopsItsReader:
    """Becomes units without trouble where it is read; the first process that reads it is stopped before that."""

    folder: Path

    def __reduce__(self) -> tuple[Any, ...]:
        return _read, (self.folder,)


def _read(folder: Path) -> Trouble:
    met = folder / "met"
    if not met.exists():
        met.write_text(str(os.getpid()))
        stop(folder)
    return Trouble(folder, -1, stop)


def stop(_: Path) -> None:
    """Stop this process, as a machine that is put to sleep would."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(folder: Path) -> None:
    """Wait for what never comes, alive."""
    wait_until((folder / "never").exists, timeout=600)


def prove_and_stop(folder: Path) -> None:
    (folder / "proven").touch()
    stop(folder)


@ray.remote(num_cpus=1)
class Holder:
    def pid(self) -> int:
        return os.getpid()


@contextmanager
def held_cores(count: int) -> Iterator[None]:
    """Hold cores as another job would."""
    holders: list[Any] = [Holder.remote() for _ in range(count)]  # type: ignore[attr-defined]
    try:
        ray.get([holder.pid.remote() for holder in holders])
        yield
    finally:
        for holder in holders:
            ray.kill(holder)
        wait_until(lambda: ray.available_resources().get("CPU", 0) == 2, timeout=30)
