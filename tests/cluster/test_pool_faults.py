"""Workers that are lost, stopped or slow, and cores that others hold: units go to whoever is alive."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.tasks import submit
from relatif.pipeline.devices import Worker
from relatif.schemas.errors import ClusterError
from tests.support.processes import wait_until

pytestmark = pytest.mark.usefixtures("local_ray")

TWO = WorkerShape(count=2, threads=1, gpus=0)
HASTY = Limits(retries=2, patience_s=60, silence_s=4, overdue=10, shortest_overdue_s=2)


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


def stop(_: Path) -> None:
    """Stop this process, as a machine that is put to sleep would."""
    os.kill(os.getpid(), signal.SIGSTOP)


def hang(folder: Path) -> None:
    """Wait for what never comes, alive."""
    wait_until((folder / "never").exists, timeout=600)


def prove_and_stop(folder: Path) -> None:
    (folder / "proven").touch()
    stop(folder)


def finished(work: Work, limits: Limits = HASTY, shape: WorkerShape = TWO) -> list[int]:
    receipts: list[int] = []
    run_units(work, shape, done=receipts.append, limits=limits)
    return receipts


@pytest.mark.parametrize("units", [1, 8])
def test_the_unit_of_a_stopped_worker_is_done_by_another(
    tmp_path: Path, units: int, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sorted(finished(Work(Trouble(tmp_path, 0, stop), range(units), "score"))) == list(range(units))
    assert "0: no sign of life from process " + (tmp_path / "met").read_text() in capfd.readouterr().err


def test_a_stopped_worker_that_holds_the_only_core_is_ended(tmp_path: Path) -> None:
    with held_cores(1):
        limits = Limits(retries=2, patience_s=60, silence_s=3, room_s=2)
        assert finished(Work(Trouble(tmp_path, 1, stop), range(3)), limits) == [0, 1, 2]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "met").read_text()), 0)


def test_a_unit_that_takes_ten_times_as_long_as_others_is_started_a_second_time(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert sorted(finished(Work(Trouble(tmp_path, 3, hang), range(8)))) == list(range(8))
    assert "others took" in capfd.readouterr().err


def test_what_a_stopped_worker_has_proven_is_not_done_again(tmp_path: Path) -> None:
    def find(unit: int) -> int | None:
        return -unit if unit == 2 and (tmp_path / "proven").exists() else None

    done = finished(Work(Trouble(tmp_path, 2, prove_and_stop), range(4), find=find))
    assert sorted(done) == [-2, 0, 1, 3]


def test_no_unit_waits_for_a_core_that_another_job_holds(tmp_path: Path) -> None:
    with held_cores(1):
        assert finished(Work(Trouble(tmp_path, -1, stop), range(20))) == list(range(20))


def test_a_run_without_a_core_ends_by_itself_and_says_what_it_waited_for(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    limits = Limits(patience_s=3)
    for units in (1, 4):
        with held_cores(2), pytest.raises(ClusterError) as caught:
            finished(Work(Trouble(tmp_path, -1, stop), range(units), "score"), limits)
        assert (
            "found none in 3.0 s: it takes 1 core(s) on one node, and the cluster has 2 core(s) on 1 node(s), 0 of "
            "them free, 2 held by others; add nodes"
        ) in str(caught.value).replace("4.0 s", "3.0 s")
    assert finished(Work(Trouble(tmp_path, -1, stop), range(4)), limits)


def test_an_actor_without_a_unit_gives_its_core_back(tmp_path: Path) -> None:
    """Of two actors one works at the last unit, which ends when a task has found room beside it."""

    def receipts(unit: int) -> None:
        if unit == 0:
            submit((tmp_path / "never").touch).start("a task beside the actors", None)

    work = Work(Trouble(tmp_path, 1, hang), range(2))
    run_units(work, TWO, done=receipts, limits=Limits(patience_s=60))


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
