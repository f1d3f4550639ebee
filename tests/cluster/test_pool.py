"""Actors work through units one at a time each, survive being killed, and tell errors as they were raised."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.devices import Worker
from relatif.schemas.errors import ClusterError, DataError, ModelError
from tests.support.processes import wait_until

pytestmark = pytest.mark.usefixtures("local_ray")

TWO = WorkerShape(count=2, threads=1, gpus=0)
ONE = WorkerShape(count=1, threads=1, gpus=0)


@dataclass(frozen=True)
class Receipt:
    """What a unit says of where it was computed."""

    unit: int
    pid: int
    torch_threads: int


@dataclass(frozen=True)
class Leaving:
    """Leaves a file for every build and every start of a unit; a unit kills its process the first ``deaths`` times.

    A unit waits for ``builds`` actors to be there.
    """

    folder: Path
    deaths: int = 0
    fatal: tuple[int, ...] = ()
    builds: int = 1

    def __call__(self, worker: Worker) -> Callable[[int], Receipt]:
        leave(self.folder / "builds", f"{worker.threads} {worker.device}")
        return self.compute

    def compute(self, unit: int) -> Receipt:
        earlier = leave(self.folder / "starts", str(unit))
        wait_until(lambda: len(left(self.folder / "builds")) >= self.builds, timeout=60)
        if unit in self.fatal and earlier < self.deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return Receipt(unit, os.getpid(), torch.get_num_threads())


def leave(folder: Path, name: str) -> int:
    """Leave a new file with this name; return how many there were before."""
    folder.mkdir(parents=True, exist_ok=True)
    earlier = len(list(folder.glob(f"{name}.*")))
    (folder / f"{name}.{os.getpid()}.{earlier}").touch()
    return earlier


def left(folder: Path) -> list[str]:
    return sorted(path.name.partition(".")[0] for path in folder.iterdir())


def bad_build(worker: Worker) -> Callable[[int], Receipt]:
    raise ModelError("expected a checkpoint of task 'a', found another model's; train it again")


def bad_units(worker: Worker) -> Callable[[int], Receipt]:
    def compute(unit: int) -> Receipt:
        if unit == 3:
            raise DataError("expected shard 3, found none; copy it")
        return Receipt(unit, 0, 0)

    return compute


def buggy_units(worker: Worker) -> Callable[[int], Receipt]:
    return lambda unit: 1 // (unit - 1)


def run(build: Leaving, units: range, shape: WorkerShape, *, retries: int = 2) -> list[Receipt]:
    receipts: list[Receipt] = []
    run_units(Work(build, units), shape, limits=Limits(retries), done=receipts.append)
    return receipts


def test_every_unit_is_computed_once_by_one_of_the_actors(tmp_path: Path) -> None:
    receipts = run(Leaving(tmp_path, builds=2), range(7), TWO)
    assert sorted(receipt.unit for receipt in receipts) == list(range(7))
    assert left(tmp_path / "starts") == [str(unit) for unit in range(7)]
    assert left(tmp_path / "builds") == ["1 cpu", "1 cpu"]
    assert len({receipt.pid for receipt in receipts}) == 2
    assert {receipt.torch_threads for receipt in receipts} == {1}


def test_an_actor_is_told_its_cores_and_uses_one_in_torch_itself(tmp_path: Path) -> None:
    receipts = run(Leaving(tmp_path), range(2), WorkerShape(count=1, threads=2, gpus=0))
    assert left(tmp_path / "builds") == ["2 cpu"]
    assert {receipt.torch_threads for receipt in receipts} == {1}


@pytest.mark.parametrize("shape", [ONE, TWO])
def test_never_more_units_in_hand_than_actors(tmp_path: Path, shape: WorkerShape) -> None:
    """Units are so short that one waiting in an actor's queue would have begun before the driver hears of the last."""
    begun: list[int] = []
    run_units(
        Work(Leaving(tmp_path), range(20)),
        shape,
        limits=Limits(retries=0),
        done=lambda _: begun.append(len(list((tmp_path / "starts").iterdir()))),
    )
    assert len(begun) == 20
    assert all(count <= heard + shape.count for heard, count in enumerate(begun))


def test_no_units_need_no_work(tmp_path: Path) -> None:
    assert run(Leaving(tmp_path), range(0), ONE) == []
    assert not (tmp_path / "builds").exists()


def test_an_actor_that_is_killed_is_replaced_and_repeats_its_unit(tmp_path: Path) -> None:
    receipts = run(Leaving(tmp_path, deaths=1, fatal=(2,)), range(5), ONE)
    assert [receipt.unit for receipt in receipts] == list(range(5))
    assert left(tmp_path / "starts") == ["0", "1", "2", "2", "3", "4"]
    assert left(tmp_path / "builds") == ["1 cpu", "1 cpu"]
    assert receipts[1].pid != receipts[2].pid == receipts[4].pid


def test_retries_are_counted_for_each_unit_not_for_each_actor(tmp_path: Path) -> None:
    """A long run on machines that come and go loses more actors than any one unit may."""
    receipts = run(Leaving(tmp_path, deaths=1, fatal=(0, 1, 2)), range(3), ONE, retries=1)
    assert [receipt.unit for receipt in receipts] == [0, 1, 2]
    assert left(tmp_path / "starts") == ["0", "0", "1", "1", "2", "2"]


def test_a_unit_that_loses_its_actor_too_often_is_a_cluster_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"(?s)^expected workers.*cluster.max_retries.*finished units are kept$"):
        run(Leaving(tmp_path, deaths=9, fatal=(1,)), range(3), ONE, retries=1)
    assert left(tmp_path / "starts") == ["0", "1", "1"]


@pytest.mark.parametrize(
    ("build", "kind", "message"),
    [
        (bad_build, ModelError, "^expected a checkpoint of task 'a', found another model's; train it again$"),
        (bad_units, DataError, "^expected shard 3, found none; copy it$"),
        (buggy_units, ZeroDivisionError, "in buggy_units|in <lambda>"),
    ],
)
def test_an_error_comes_back_as_it_was_raised(
    build: Callable[[Worker], Callable[[int], Receipt]], kind: type[Exception], message: str
) -> None:
    done: list[Receipt] = []
    with pytest.raises(kind, match=message):
        run_units(Work(build, range(6)), TWO, done=done.append)
    assert len(done) < 6
