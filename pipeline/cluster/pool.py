"""Actors that work through units with back-pressure and retries: receipts come back, results go to storage."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import ray
import torch

from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.tasks import Tick, gather, no_tick, submit, value_of, wait
from relatif.pipeline.devices import Worker, device_for

Unit_contra = TypeVar("Unit_contra", contravariant=True)
Receipt_co = TypeVar("Receipt_co", covariant=True)


class Build(Protocol[Unit_contra, Receipt_co]):
    """Makes the function that computes units, inside the actor that will call it."""

    def __call__(self, worker: Worker) -> Callable[[Unit_contra], Receipt_co]:
        """Load what every unit needs."""
        ...


def run_units(
    build: Build[Any, Any],
    units: Sequence[Any],
    shape: WorkerShape,
    *,
    retries: int,
    done: Callable[[Any], None],
    tick: Tick = no_tick,
) -> None:
    """Run every unit on one of ``shape.count`` actors, each with one unit in hand; ``done`` gets the receipts.

    A single unit runs as a task.

    ``build(worker)`` runs once in each actor and returns what computes a unit. An actor that is lost is started again
    and repeats the unit it was in; a unit that loses its actor more than ``retries`` times ends the work with a
    ClusterError. An error that a unit raises is final.
    """
    if not units:
        return
    worker = Worker(shape.threads, device_for(shape.gpus))
    if len(units) == 1:
        # A task finds a process that is there already; an actor's own takes seconds to start.
        single = submit(_run_one, build, worker, units[0], threads=shape.threads, gpus=shape.gpus, retries=retries)
        done(gather([single], tick=tick)[0])
        return
    actor_class: Any = ray.remote(_Actor)
    options = actor_class.options(
        num_cpus=shape.threads,
        num_gpus=shape.gpus,
        # No limit here: losses are counted for each unit, and a long run may see many actors lost.
        max_restarts=-1,
        max_task_retries=retries,
        scheduling_strategy="SPREAD",
    )
    actors = [options.remote(build, worker) for _ in range(shape.count)]
    try:
        _feed(actors, units, done, tick)
    finally:
        # Killed, not only dropped: an error's traceback would keep the actors, and with them their cores.
        for actor in actors:
            ray.kill(actor)


def _feed(actors: Sequence[Any], units: Sequence[Any], done: Callable[[Any], None], tick: Tick) -> None:
    idle, waiting = deque(actors), deque(units)
    running: dict[Any, Any] = {}
    while waiting or running:
        # A unit is handed out when an actor is free, so the loss of an actor costs one unit at most.
        while waiting and idle:
            actor = idle.popleft()
            running[actor.run.remote(waiting.popleft())] = actor
        finished, _ = wait(list(running), tick=tick)
        for reference in finished:
            idle.append(running.pop(reference))
            done(value_of(reference))


def _run_one(build: Build[Any, Any], worker: Worker, unit: Any) -> Any:
    return build(worker)(unit)


class _Actor:
    """Builds with its first unit, not in its constructor: Ray takes an error there for the loss of the actor."""

    def __init__(self, build: Build[Any, Any], worker: Worker) -> None:
        self._build, self._worker = build, worker
        self._run: Callable[[Any], Any] | None = None

    def run(self, unit: Any) -> Any:
        # One core for each call of torch: units spread over a pool of threads, whose size changes no result.
        torch.set_num_threads(1)
        if self._run is None:
            self._run = self._build(self._worker)
        return self._run(unit)
