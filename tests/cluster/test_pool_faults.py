"""Workers that are lost, stopped or slow, and cores that others hold: units go to whoever is alive."""

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.pool import Work, run_units
from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.tasks import submit
from relatif.schemas.errors import ClusterError
from tests.support.trouble import StopsItsReader, Trouble, hang, held_cores, prove_and_stop, stop

pytestmark = pytest.mark.usefixtures("local_ray")

TWO = WorkerShape(count=2, threads=1, gpus=0)
HASTY = Limits(retries=2, patience_s=60, silence_s=4, overdue=10, shortest_overdue_s=2)


def finished(work: Work, limits: Limits = HASTY, shape: WorkerShape = TWO) -> list[int]:
    receipts: list[int] = []
    run_units(work, shape, done=receipts.append, limits=limits)
    return receipts


@pytest.mark.parametrize("units", [1, 8])
def test_the_unit_of_a_stopped_worker_is_done_by_another(
    tmp_path: Path, units: int, capfd: pytest.CaptureFixture[str]
) -> None:
    # Silence alone may be why, not that others were quicker.
    limits = replace(HASTY, shortest_overdue_s=60)
    assert sorted(finished(Work(Trouble(tmp_path, 0, stop), range(units), "score"), limits)) == list(range(units))
    assert "0: no sign of life from " in capfd.readouterr().err


def test_a_stopped_worker_that_holds_the_only_core_is_ended(tmp_path: Path) -> None:
    with held_cores(1):
        limits = Limits(retries=2, patience_s=60, silence_s=3, room_s=2)
        assert finished(Work(Trouble(tmp_path, 1, stop), range(3)), limits) == [0, 1, 2]
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "met").read_text()), 0)


@pytest.mark.parametrize("units", [1, 3])
def test_a_worker_that_is_stopped_before_its_first_sign_gives_up_the_only_core(tmp_path: Path, units: int) -> None:
    with held_cores(1):
        limits = Limits(retries=2, patience_s=60, silence_s=6)
        assert finished(Work(StopsItsReader(tmp_path), range(units)), limits) == list(range(units))
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
        assert re.search(
            r"found none in [\d.]+ s: it takes 1 core\(s\) on one node, and the cluster has 2 core\(s\) on 1 "
            r"node\(s\), 0 of them free, 2 held by others; add nodes",
            str(caught.value),
        )
    assert finished(Work(Trouble(tmp_path, -1, stop), range(4)))


def test_an_actor_without_a_unit_gives_its_core_back(tmp_path: Path) -> None:
    """Of two actors one works at the last unit, which ends when a task has found room beside it."""

    def receipts(unit: int) -> None:
        if unit == 0:
            submit((tmp_path / "never").touch).start("a task beside the actors", None)

    work = Work(Trouble(tmp_path, 1, hang), range(2))
    run_units(work, TWO, done=receipts, limits=Limits(patience_s=60))
