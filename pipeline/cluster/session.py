"""Joining the cluster that is there, or starting one on this machine."""

import json
import logging
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from relatif.pipeline.cluster.attempts import Limits
from relatif.pipeline.cluster.failures import explained, one_line
from relatif.pipeline.cluster.nodes import Node, living_nodes, room, room_at_most
from relatif.pipeline.cluster.signs import forget_signs
from relatif.pipeline.console import say
from relatif.schemas.config import ClusterConfig
from relatif.schemas.errors import ClusterError

LARGEST_DEFAULT_THREADS = 8
CONNECT_SECONDS = 10.0
TOKEN_SETTINGS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class Resources:
    """What the cluster has: nodes, cores and GPUs in all, and the cores of the smallest node.

    ``each`` are the nodes; without them all are as large as the smallest, and GPUs may lie on any.
    """

    nodes: int
    cpus: int
    gpus: int
    node_cpus: int
    address: str
    each: tuple[Node, ...] = ()

    def room(self, threads: int, gpus: float) -> int:
        """Return how many workers of so many cores and GPUs it holds; each lies on one node."""
        if self.each:
            return room(self.each, threads, gpus)
        by_cpu = self.nodes * (self.node_cpus // threads) if self.nodes > 1 else self.cpus // threads
        return min(by_cpu, int(self.gpus / gpus)) if gpus else by_cpu

    def usual_threads(self, gpus: float) -> int:
        """Return a worker's cores by default: a node's, up to LARGEST_DEFAULT_THREADS; of several, what uses most."""
        sizes = {min(node.cpus, LARGEST_DEFAULT_THREADS) for node in self.each} or {
            min(self.node_cpus, LARGEST_DEFAULT_THREADS)
        }
        return max(sizes, key=lambda threads: (self.room(threads, gpus) * threads, threads))


@dataclass(frozen=True)
class WorkerShape:
    """How many actors there are, with the cores (threads) and the GPUs of each.

    ``most`` is how many there may be when nodes join; None: no more.
    """

    count: int
    threads: int
    gpus: float
    most: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster: what it has, and what the settings ask of it."""

    config: ClusterConfig
    resources: Resources

    @property
    def gpus(self) -> float:
        """GPUs of a worker: as configured, by default 1 where the cluster has any."""
        return _gpus_of_worker(self.config, self.resources)

    @property
    def limits(self) -> Limits:
        """How long is waited for what, and how often work is repeated."""
        return Limits(self.config.max_retries, self.config.patience_s)

    def again(self) -> "Cluster":
        """Return the cluster with what it has now."""
        return replace(self, resources=_resources())

    def cores(self) -> int:
        """Return how many cores the cluster has now."""
        return sum(node.cpus for node in living_nodes())

    def without_gpus(self) -> "Cluster":
        """Return the cluster as one whose workers compute on processors alone."""
        return replace(self, config=self.config.model_copy(update={"gpus_per_worker": 0.0}))

    def workers(self, units: int) -> WorkerShape:
        """Return the workers for so many units; raises as ``worker_shape``."""
        return worker_shape(self.config, self.resources, units)


@contextmanager
def session(config: ClusterConfig) -> Iterator[Cluster]:
    """Connect to Ray and yield the cluster; what was started or joined here is left at the end.

    A running cluster is joined as Ray finds it (``RAY_ADDRESS``, then the one that ``ray start`` left on this machine);
    without one, Ray is started on this machine and ends with the job. Raises ClusterError when neither can be done.
    """
    joined = ray.is_initialized()
    if not joined:
        _connect(config)
        _interrupt_when_terminated()
    try:
        yield Cluster(config, _resources())
        forget_signs(f"{ray.get_runtime_context().get_job_id()}/")
    except RayError as error:
        # Of a worker's own errors only those that are not this project's arrive as Ray's.
        if isinstance(error, RayTaskError):
            raise
        raise explained(error, "the work in hand") from error
    finally:
        if not joined:
            ray.shutdown()


def _interrupt_when_terminated() -> None:
    """Let SIGTERM, which ``ray job stop`` sends, interrupt a job as Ctrl-C does: Ray would make a mere exit of it."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def joins_cluster() -> bool:
    """Return whether a session would join a cluster that is there; ClusterError where RAY_ADDRESS names none."""
    return ray.is_initialized() or _running_cluster() is not None


def worker_shape(config: ClusterConfig, resources: Resources, units: int) -> WorkerShape:
    """Resolve the actors' number and shape; never more actors than units.

    Raises ClusterError when the cluster can't hold what the configuration asks for.
    """
    gpus = _gpus_of_worker(config, resources)
    threads = config.threads_per_worker or resources.usual_threads(gpus)
    fitting = resources.room(threads, gpus)
    count = config.workers or max(1, fitting)
    # Where an autoscaler may make room, the run waits for it.
    if count > fitting and (not ray.is_initialized() or count > room_at_most(threads, gpus)):
        raise ClusterError(
            f"expected room for {count} worker(s) of {threads} core(s) and {gpus:g} GPU(s), found {resources.cpus} "
            f"core(s) and {resources.gpus} GPU(s) on {resources.nodes} node(s); lower cluster.workers, "
            f"cluster.threads_per_worker or cluster.gpus_per_worker, or add nodes"
        )
    units = max(1, units)
    return WorkerShape(min(count, units), threads, gpus, min(config.workers or units, units))


def _gpus_of_worker(config: ClusterConfig, resources: Resources) -> float:
    asked = config.gpus_per_worker
    return float(resources.gpus > 0) if asked is None else asked


def _connect(config: ClusterConfig) -> None:
    # Every error of a task is told here, also of one that was started twice.
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    quiet: dict[str, Any] = {"logging_level": logging.WARNING, "configure_logging": True}
    try:
        job = _submission(os.environ)
        if job is not None:
            say(
                f"ray: this is the submitted job {job}: Ctrl-C where it was submitted leaves it running, and the same "
                f"--out refuses a second one until it has ended; ray job stop {job} ends it"
            )
        address = _running_cluster()
        if address is not None:
            say(f"ray: joining the cluster at {address}")
            ray.init(**quiet)
            return
        # Ray's own default lets workers wait for whatever else runs; a job asks for its own priority.
        os.environ.setdefault("RAY_worker_niceness", "0")
        cores = config.local_cpus or os.cpu_count() or 1
        say(f"ray: starting on this machine with {cores} core(s)")
        _set_own_token()
        with _without_token_notice():
            ray.init(
                address="local",
                num_cpus=cores,
                object_store_memory=config.object_store_bytes,
                include_dashboard=False,
                **quiet,
            )
    except Exception as error:
        raise ClusterError(
            f"expected to join the Ray cluster that is there, or to start one on this machine, found "
            f"{one_line(error)}; where one is started set RAY_TMPDIR to a folder that can be written and has a short "
            f"path, and lower cluster.object_store_bytes where memory is short; for a "
            f"cluster that asks for a token set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (ray get-auth-token prints it "
            f"on the head); Ray's logs are in {_ray_folder()}"
        ) from error


def _submission(environment: Mapping[str, str]) -> str | None:
    """Return the id under which ``ray job submit`` started this process, None where it did not."""
    try:
        config = json.loads(environment.get("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}"))
        found: str | None = config.get("metadata", {}).get("job_submission_id")
    except (ValueError, AttributeError):
        return None
    return found


def _running_cluster() -> str | None:
    """Return the address of the cluster to join, in Ray's own order: RAY_ADDRESS, then what ``ray start`` left here.

    Ray itself would wait for minutes at the address of a cluster that is gone. Raises ClusterError where RAY_ADDRESS is
    no address or nobody answers there.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    if named == "local":
        return None
    if named and named != "auto":
        if not _answers(named):
            raise ClusterError(
                f"expected a Ray cluster at RAY_ADDRESS={named} (host:port of its head), found nobody that answers; "
                f"start it, correct the address, or unset RAY_ADDRESS to use this machine alone"
            )
        return named
    with suppress(OSError):
        left = (_ray_folder() / "ray_current_cluster").read_text().strip()
        return left if _answers(left) else None
    return None


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "//" in host:
        return False
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError):
        return False
    return True


def _ray_folder() -> Path:
    return Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")


@contextmanager
def _without_token_notice() -> Iterator[None]:
    """Keep Ray from announcing that it asks for a token: no other process needs to know one."""
    logger = logging.getLogger("ray._private.authentication.authentication_token_setup")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _set_own_token() -> None:
    """Give the Ray that this process starts a token of its own, unless the user set one.

    Ray would save one in ~/.ray otherwise, and every ``ray start`` and ``ray job submit`` after that would ask for it.
    It stays for the life of the process, as Ray reads it once.
    """
    if not any(name in os.environ for name in TOKEN_SETTINGS):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _resources() -> Resources:
    nodes = living_nodes()
    if not nodes:
        raise ClusterError("expected a cluster with at least one core, found none; start nodes with num_cpus above 0")
    return Resources(
        nodes=len(nodes),
        cpus=sum(node.cpus for node in nodes),
        gpus=sum(node.gpus for node in nodes),
        node_cpus=min(node.cpus for node in nodes),
        address=ray.get_runtime_context().gcs_address,
        each=nodes,
    )
