"""Nodes are lost, stopped and added in every stage, and runs share a cluster: each ends with the undisturbed tables."""

import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.faults import SETTINGS, Disturbed, differing, seeded
from tests.support.images import write_images
from tests.support.machines import QUICK_HEALTH_CHECKS, Machines, machines
from tests.support.processes import wait_until
from tests.support.runs import config, run_named
from tests.support.unhurried import UNHURRIED

pytestmark = pytest.mark.timeout(600)  # the first of them makes six undisturbed stages

STAGES = ("train", "factors", "score", "statistics", "leave_one_out", "evaluate")
BEFORE = dict(zip(STAGES[1:], STAGES, strict=False)) | {"evaluate": "statistics"}
"""The stage after which a run is as the job of a stage finds it."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("faults") / "data", train=400, test=20)


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> dict[str, Path]:
    """Runs that were stopped after each stage."""
    folder, found = tmp_path_factory.mktemp("undisturbed"), dict[str, Path]()
    for stage in STAGES:
        found[stage] = seeded(found.get(BEFORE.get(stage, "")), folder / stage)
        run_named(config(data, *SETTINGS[1:], task=UNHURRIED), found[stage], stage)
    return found


def lose_one(there: Machines) -> None:
    there.lose(1)


def lose_two(there: Machines) -> None:
    there.lose(1, 2)


def add_one_and_lose_one(there: Machines) -> None:
    """Beside a head without cores: a node joins, the only other one is lost, so that the run needs the new one."""
    there.add(1)
    there.lose(1)


def stop_one(there: Machines) -> None:
    there.stop(1)


@dataclass(frozen=True)
class Case:
    """A stage on nodes of so many cores, and what happens to them some seconds after a line of its log."""

    stage: str
    cores: tuple[int, ...]
    fault: Callable[[Machines], None]
    seconds: float
    after: str = ""

    def __str__(self) -> str:
        return f"{self.stage} {self.fault.__name__}"


CASES = [
    Case("train", (0, 1), add_one_and_lose_one, 3.0),
    Case("factors", (1, 1, 1), lose_two, 2.0),
    Case("factors", (1, 1), stop_one, 2.0),
    Case("score", (1, 1, 1), lose_two, 3.0),
    Case("statistics", (0, 1), add_one_and_lose_one, 0.0),
    Case("leave_one_out", (1, 1), lose_one, 4.0),
    Case("evaluate", (1, 1, 1), lose_two, 4.0, "linear_datamodeling: begins"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_stage_ends_with_the_same_results_whatever_node_is_lost(
    data: Path, undisturbed: dict[str, Path], tmp_path: Path, case: Case
) -> None:
    out = seeded(undisturbed.get(BEFORE.get(case.stage, "")), tmp_path / "run")
    after = case.after or f"{case.stage}: begins"
    Disturbed(case.stage, out, settings(data)).run(case.cores, after, case.seconds, case.fault)
    assert differing(out, undisturbed[case.stage]) == []


def test_two_runs_share_a_cluster_and_one_goes_on_beside_a_job_that_holds_half_of_it(
    data: Path, undisturbed: dict[str, Path], tmp_path: Path
) -> None:
    both = [Disturbed("score", seeded(undisturbed["factors"], tmp_path / name), settings(data)) for name in "ab"]
    with machines(2, **QUICK_HEALTH_CHECKS) as there:
        for process, job in [(job.start(there), job) for job in both]:
            job.ended(process)
        alone = Disturbed("score", seeded(undisturbed["factors"], tmp_path / "c"), settings(data))
        program = (
            "import ray, time\ndef hold(): time.sleep(600)\nray.init()\nray.get(ray.remote(num_cpus=1)(hold).remote())"
        )
        holder = there.alone.start(sys.executable, "-c", program, RAY_ADDRESS=there.address)
        wait_until(lambda: there.workers("hold"), timeout=60)
        alone.ended(alone.start(there))
        with suppress(ProcessLookupError):
            holder.send_signal(signal.SIGKILL)
    for name in "abc":
        assert differing(tmp_path / name, undisturbed["score"]) == []


def settings(data: Path) -> list[str]:
    return [*SETTINGS, f"data.source={data}"]
