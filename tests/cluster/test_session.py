"""The cluster that is there is joined and left running; without one, a Ray is started and ends with the job."""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import ray

from relatif.pipeline.cluster.nodes import Node
from relatif.pipeline.cluster.session import Cluster, Resources, WorkerShape, _submission, session, worker_shape
from relatif.schemas.config import ClusterConfig
from relatif.schemas.errors import ClusterError
from tests.support.processes import Sandbox, sandbox, wait_until

CLUSTER_CPUS, OWN_CPUS = 3, 2
PROGRAM = f"""
import json
from relatif.pipeline.cluster.session import session
from relatif.schemas.config import ClusterConfig
with session(ClusterConfig(local_cpus={OWN_CPUS}, object_store_bytes={100 * 2**20})) as cluster:
    more = dict(each=len(cluster.resources.each))
    print(json.dumps(vars(cluster.resources) | more))
"""
NICENESS = """
    from os import nice
    from ray import get, remote
    more |= dict(own=nice(0), of_workers=get(remote(lambda: nice(0)).remote()))"""
NOBODY = "127.0.0.1:1"


def resources(*, nodes: int = 1, cpus: int = 8, gpus: int = 0, node_cpus: int | None = None) -> Resources:
    return Resources(nodes, cpus, gpus, node_cpus or cpus // nodes, "127.0.0.1:6379")


def sizes(*nodes: tuple[int, int]) -> Resources:
    """Nodes of so many cores and GPUs."""
    each = tuple(Node(str(number), "host", cpus, gpus) for number, (cpus, gpus) in enumerate(nodes))
    cpus, gpus = [node.cpus for node in each], [node.gpus for node in each]
    return Resources(len(each), sum(cpus), sum(gpus), min(cpus), "", each)


@pytest.mark.parametrize(
    ("settings", "there", "units", "expected"),
    [
        ({}, resources(cpus=2), 6, WorkerShape(1, 2, 0)),
        ({}, resources(cpus=8), 6, WorkerShape(1, 8, 0)),
        ({}, resources(cpus=64), 6, WorkerShape(6, 8, 0)),
        ({}, resources(cpus=64), 100, WorkerShape(8, 8, 0)),
        ({}, resources(nodes=3, cpus=28, node_cpus=4), 100, WorkerShape(3, 4, 0)),
        ({"threads_per_worker": 3}, resources(nodes=2, cpus=16), 100, WorkerShape(4, 3, 0)),
        ({"threads_per_worker": 1, "workers": 2}, resources(cpus=2), 100, WorkerShape(2, 1, 0)),
        ({"threads_per_worker": 1}, resources(cpus=2), 1, WorkerShape(1, 1, 0)),
        ({}, resources(cpus=2), 0, WorkerShape(1, 2, 0)),
        ({}, resources(cpus=16, gpus=1), 100, WorkerShape(1, 8, 1)),
        ({"gpus_per_worker": 0}, resources(cpus=16, gpus=1), 100, WorkerShape(2, 8, 0)),
        ({}, sizes((2, 0), (16, 0)), 100, WorkerShape(9, 2, 0)),
        ({}, sizes((4, 0), (64, 4), (64, 4)), 100, WorkerShape(8, 8, 1)),
        ({}, sizes((7, 0), (8, 0)), 100, WorkerShape(2, 7, 0)),
        ({"threads_per_worker": 8}, sizes((2, 0), (16, 0)), 100, WorkerShape(2, 8, 0)),
        ({"gpus_per_worker": 0.5, "threads_per_worker": 2}, resources(cpus=16, gpus=1), 100, WorkerShape(2, 2, 0.5)),
    ],
)
def test_shape_of_the_workers(settings: dict[str, Any], there: Resources, units: int, expected: WorkerShape) -> None:
    assert worker_shape(ClusterConfig(**settings), there, units) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 3, "threads_per_worker": 1}, r"room for 3 worker\(s\) of 1 core\(s\) and 0 GPU"),
        ({"threads_per_worker": 3}, r"room for 1 worker\(s\) of 3 core\(s\)"),
        ({"gpus_per_worker": 1}, r"room for 1 worker\(s\) of 2 core\(s\) and 1 GPU"),
    ],
)
def test_workers_that_the_cluster_cannot_hold_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ClusterError, match=message + r".*found 2 core\(s\) and 0 GPU\(s\) on 1 node\(s\); lower"):
        worker_shape(ClusterConfig(**settings), resources(cpus=2), 10)


@pytest.mark.parametrize(
    ("asked", "gpus", "expected"),
    [(None, 0, 0.0), (None, 1, 1.0), (None, 4, 1.0), (0, 4, 0.0), (0.5, 1, 0.5), (2, 4, 2.0)],
)
def test_a_worker_has_the_gpus_that_are_asked_for_or_one_where_there_are_any(
    asked: float | None, gpus: int, expected: float
) -> None:
    assert Cluster(ClusterConfig(gpus_per_worker=asked), resources(gpus=gpus)).gpus == expected


def test_workers_are_those_of_the_settings_and_can_be_asked_for_without_gpus() -> None:
    cluster = Cluster(ClusterConfig(threads_per_worker=4), resources(cpus=16, gpus=1))
    assert cluster.workers(100) == WorkerShape(1, 4, 1)
    assert cluster.without_gpus().workers(100) == WorkerShape(4, 4, 0)
    assert cluster.without_gpus().workers(2) == WorkerShape(2, 4, 0)
    with pytest.raises(ClusterError, match=r"room for 3 worker\(s\) of 4 core\(s\) and 1 GPU"):
        Cluster(ClusterConfig(threads_per_worker=4, workers=3), cluster.resources).workers(100)


def test_a_ray_that_this_process_uses_is_used_and_left(local_ray: None) -> None:
    config = ClusterConfig(local_cpus=1)
    with session(config) as cluster:
        there = cluster.resources
        assert (there.nodes, there.cpus, there.gpus, there.node_cpus) == (1, 2, 0, 2)
        assert cluster.config == config
    assert ray.is_initialized()


@pytest.fixture(scope="module")
def alone() -> Iterator[Sandbox]:
    """A machine where no Ray is running."""
    with sandbox() as made:
        yield made


@pytest.fixture(scope="module")
def cluster() -> Iterator[Sandbox]:
    """A machine where ``ray start`` has made a cluster that asks for a token."""
    with sandbox() as made:
        made.start_cluster("--num-cpus", str(CLUSTER_CPUS), "--include-dashboard=false")
        yield made


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (json.dumps({"runtime_env": {}, "metadata": {"job_submission_id": "raysubmit_1"}}), "raysubmit_1"),
        (json.dumps({"runtime_env": {}}), None),
        ("no JSON", None),
        ("[]", None),
    ],
)
def test_a_submitted_job_knows_the_id_that_ends_it(given: str, expected: str | None) -> None:
    assert _submission({"RAY_JOB_CONFIG_JSON_ENV_VAR": given}) == expected
    assert _submission({}) is None


def as_job(program: str) -> str:
    """Return the program as one that ends as a job does."""
    before, session, rest = program.partition("with session")
    indented = "".join(f"    {line}\n" for line in (session + rest).splitlines())
    imports = "import sys\nfrom relatif.jobs._ending import status_of\n"
    return f"{imports}{before}def work():\n{indented}sys.exit(status_of(work))"


@pytest.mark.parametrize("folder", ["/proc/nowhere", "/dev/null"])
def test_a_ray_that_does_not_start_is_told_in_one_line(alone: Sandbox, folder: str) -> None:
    ended = alone.python("-c", as_job(PROGRAM), RAY_TMPDIR=folder)
    assert ended.returncode == 1
    *_, last = ended.stderr.splitlines()
    assert last.startswith("error: expected to join the Ray cluster that is there, or to start one on this machine, ")
    assert folder in last
    assert "Traceback" not in ended.stderr


def joined(ended: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert ended.returncode == 0, ended.stderr
    return dict(json.loads(ended.stdout))


def test_without_a_cluster_one_is_started_and_ends_with_the_job(alone: Sandbox) -> None:
    """The address that ``ray start`` left is no cluster when nobody answers there any more."""
    left = alone.folder / "ray/ray_current_cluster"
    left.parent.mkdir()
    left.write_text(NOBODY)
    ended = alone.python("-c", PROGRAM.replace("\n    print", f"{NICENESS}\n    print"), timeout=60)
    there = joined(ended)
    assert (there["nodes"], there["cpus"]) == (1, OWN_CPUS)
    assert there["of_workers"] == there["own"], "workers compute at the job's own priority"
    assert there["address"].startswith("127.0.0.1:")
    assert ended.stderr.splitlines()[0].endswith(f"ray: starting on this machine with {OWN_CPUS} core(s)")
    assert len(ended.stderr.splitlines()) == 1, "a Ray of one's own is no news"
    wait_until(lambda: not alone.processes(), timeout=15)


@pytest.mark.parametrize("named", [True, False])
def test_a_running_cluster_is_joined_and_left_running(cluster: Sandbox, named: bool) -> None:
    before = set(cluster.processes())
    environment = {"RAY_ADDRESS": cluster.address, "RAY_AUTH_MODE": "token"} if named else {}
    there = joined(cluster.python("-c", PROGRAM, **environment))
    assert (there["cpus"], there["address"]) == (CLUSTER_CPUS, cluster.address)
    assert before
    assert before <= set(cluster.processes())


def test_a_cluster_that_asks_for_a_token_says_how_to_give_it(cluster: Sandbox) -> None:
    ended = cluster.python("-c", PROGRAM, RAY_ADDRESS=cluster.address, RAY_NUM_REDIS_GET_RETRIES="2")
    assert ended.returncode == 1
    assert "ClusterError: expected to join the Ray cluster" in ended.stderr
    assert "RAY_AUTH_MODE=token" in ended.stderr


@pytest.mark.parametrize("address", [NOBODY, "nonsense", "ray://127.0.0.1:10001"])
def test_an_address_where_nobody_answers_is_refused(alone: Sandbox, address: str) -> None:
    ended = alone.python("-c", PROGRAM, RAY_ADDRESS=address, timeout=30)
    assert ended.returncode == 1
    assert f"ClusterError: expected a Ray cluster at RAY_ADDRESS={address} (host:port of its head)" in ended.stderr


def test_a_home_without_room_for_a_token_is_told(alone: Sandbox) -> None:
    ended = alone.python("-c", PROGRAM, HOME="/proc/nowhere", RAY_AUTH_TOKEN="", timeout=30)
    assert ended.returncode == 1
    assert "ClusterError: expected to join the Ray cluster that is there, or to start one" in ended.stderr
    assert "/proc/nowhere" in ended.stderr


def test_a_terminated_job_says_that_it_can_go_on(alone: Sandbox) -> None:
    stopped = "\n    import os, signal, time\n    os.kill(os.getpid(), signal.SIGTERM)\n    time.sleep(30)"
    ended = alone.python("-c", as_job(PROGRAM + stopped), timeout=60)
    assert ended.returncode == 130, ended.stderr
    assert "interrupted: run the same command again to continue" in ended.stderr
    assert "Traceback" not in ended.stderr
