"""Tasks give values in order, raise what their functions raised, and survive the loss of a worker."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import ray
import torch

from relatif.pipeline.cluster.tasks import gather, share, submit, value_of, wait
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


pytestmark = pytest.mark.usefixtures("local_ray")


def test_values_come_in_the_order_of_their_references() -> None:
    ticks: list[int] = []
    references = [submit(double, value) for value in range(5)]
    assert gather(references[::-1], tick=lambda: ticks.append(1)) == [8, 6, 4, 2, 0]
    assert ticks
    assert gather([]) == []


def test_references_are_taken_as_their_values() -> None:
    assert gather([submit(double, submit(double, share(3)))]) == [12]


def test_a_task_may_return_several_references() -> None:
    first, second = submit(pair, 4, returns=2)
    assert gather([second, first]) == [-4, 4]


@pytest.mark.parametrize("kind", RELATIF_ERRORS)
def test_the_error_that_a_task_raises_comes_back_itself(kind: type[RelatifError]) -> None:
    with pytest.raises(RelatifError) as caught:
        gather([submit(double, 1), submit(fail, kind, "expected x, found y; do z")])
    assert type(caught.value) is kind
    assert str(caught.value) == "expected x, found y; do z"


def test_an_error_passes_through_tasks_that_depend_on_it() -> None:
    with pytest.raises(DataError, match=r"^expected a file, found none; copy it$"):
        gather([submit(double, submit(double, submit(fail_with_origin)))])


def test_an_error_that_is_no_fault_of_the_user_keeps_its_type_and_place() -> None:
    with pytest.raises(ZeroDivisionError, match="in fail\n"):
        gather([submit(fail, ZeroDivisionError, "a bug")])


def test_the_first_error_ends_the_wait(tmp_path: Path) -> None:
    slow = submit(linger, tmp_path / "go")
    try:
        with pytest.raises(DataError):
            gather([slow, submit(fail, DataError, "now")])
        assert wait_pending(slow)
    finally:
        (tmp_path / "go").touch()
        assert gather([slow]) == ["done"]


def wait_pending(reference: Any) -> bool:
    ready, _ = ray.wait([reference], timeout=0)
    return not ready


def test_waiting_ticks_until_something_is_done(tmp_path: Path) -> None:
    slow = submit(linger, tmp_path / "go")
    done, pending = wait([slow, submit(double, 1)])
    assert (pending, [value_of(reference) for reference in done]) == ([slow], [2])
    # The heartbeat lets the task end: without it this would wait for ever.
    assert wait([slow], tick=(tmp_path / "go").touch) == ([slow], [])


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
