"""Tasks give values in order, raise what their functions raised, and survive the loss of a worker."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from relatif.pipeline.cluster.tasks import gather, settle, share, submit, value_of, wait, watch_of
from relatif.schemas import errors
from relatif.schemas.errors import ClusterError, DataError, RelatifError
from tests.support.processes import wait_until

RELATIF_ERRORS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RelatifError)]


def double(value: int) -> int:
    return 2 * value


def pair(value: int) -> list[int]:
    return [value, -value]


def fail(kind: type[Exception], message: str) -> None:
    raise kind(message)


def fail_with_origin() -> None:
    try:
        fail(OSError, "disk")
    except OSError as error:
        raise DataError("expected a file, found none; copy it") from error


def die(marks: Path, times: int) -> str:
    """Kill the process that runs this, the first ``times`` times."""
    before = len(list(marks.iterdir()))
    (marks / str(before)).touch()
    if before < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return f"call {before + 1}"


def linger(go: Path) -> str:
    wait_until(go.exists, timeout=60)
    return "done"


class Ticking:
    """Progress that calls a function at each tick."""

    def __init__(self, tick: Callable[[], object]) -> None:
        self.tick = tick

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def tell(self, share: float | None, text: str) -> None:
        pass


pytestmark = pytest.mark.usefixtures("local_ray")


def test_values_come_in_the_order_of_their_references() -> None:
    ticks: list[int] = []
    tasks = [submit(double, value) for value in range(5)]
    assert gather(tasks[::-1], shown=Ticking(lambda: ticks.append(1))) == [8, 6, 4, 2, 0]
    assert ticks
    assert gather([]) == []


def test_references_are_taken_as_their_values() -> None:
    (six,) = settle([submit(double, share(3))])
    assert gather([submit(double, six)]) == [12]


def test_a_task_may_return_several_references() -> None:
    first, second = settle([submit(pair, 4, returns=2)])
    assert gather([submit(double, second), submit(double, first)]) == [-8, 8]
    assert gather([submit(pair, 4, returns=2)]) == [[4, -4]]


@pytest.mark.parametrize("kind", RELATIF_ERRORS)
def test_the_error_that_a_task_raises_comes_back_itself(kind: type[RelatifError]) -> None:
    with pytest.raises(RelatifError) as caught:
        gather([submit(double, 1), submit(fail, kind, "expected x, found y; do z")])
    assert type(caught.value) is kind
    assert str(caught.value) == "expected x, found y; do z"


def test_an_error_keeps_its_text_whatever_caused_it() -> None:
    for waiting in (gather, settle):
        with pytest.raises(DataError, match=r"^expected a file, found none; copy it$"):
            waiting([submit(fail_with_origin)])


def test_an_error_that_is_no_fault_of_the_user_keeps_its_type_and_place() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail\n"):
        gather([submit(fail, ZeroDivisionError, "a bug")])


def test_the_first_error_ends_the_wait(tmp_path: Path) -> None:
    slow = submit(linger, tmp_path / "go")
    try:
        with pytest.raises(DataError):
            gather([slow, submit(fail, DataError, "now")])
        assert not slow.ended
    finally:
        (tmp_path / "go").touch()
        assert gather([slow]) == ["done"]


def test_waiting_ticks_until_something_is_done(tmp_path: Path) -> None:
    slow = submit(linger, tmp_path / "go")
    watch = watch_of([slow])
    done, pending = wait([slow, submit(double, 1)], watch=watch)
    assert (pending, [value_of(task) for task in done]) == ([slow], [2])
    # The heartbeat lets the task end: without it this would wait for ever.
    assert wait([slow], watch=watch, shown=Ticking((tmp_path / "go").touch)) == ([slow], [])


@pytest.mark.parametrize("times", [1, 2])
def test_a_task_whose_worker_is_killed_is_repeated(tmp_path: Path, times: int) -> None:
    assert gather([submit(die, tmp_path, times, retries=2)]) == [f"call {times + 1}"]


def test_a_worker_lost_too_often_is_a_cluster_error(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"(?s)^expected workers.*cluster.max_retries.*run the same command"):
        gather([submit(die, tmp_path, 9, retries=1)])
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_torch_computes_on_one_core_whatever_a_task_is_given(threads: int) -> None:
    """A reduction over several threads rounds otherwise than one; tasks use their cores by pools of threads."""
    assert gather([submit(torch.get_num_threads, threads=threads)]) == [1]
