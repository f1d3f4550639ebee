"""Calls of functions as Ray tasks: submitted, watched while they are waited for, and started again where need be.

A task takes values and references to finished results, never to results that are still to come: the driver knows then
what each task waits for, and may start it a second time. The first result counts; equal inputs give equal results.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from relatif.pipeline.cluster.attempts import Attempt, Limits, Watch, new_key
from relatif.pipeline.cluster.failures import explained
from relatif.pipeline.cluster.signs import Signs
from relatif.pipeline.console import QUIET, Progress

TICK_SECONDS = 1.0

Reference = Any
"""A reference to a finished result: as an argument of ``submit`` it stands for its value."""


@dataclass(frozen=True)
class Telling:
    """A function whose first argument is where it tells how far it is: a share and a text, as ``Signs.tell``."""

    function: Callable[..., Any]


@dataclass(eq=False)
class Task:
    """A call: how to start it, the attempts in hand, and its results once they are there.

    ``start(key, node)`` gives signs under the key, and runs on the node if there is one. ``find()`` returns a result
    that an attempt has left in storage without being able to say so, or None.
    """

    name: str
    kind: str
    start: Callable[[str, str | None], list[Reference]]
    threads: int
    gpus: float
    find: Callable[[], Any] = lambda: None
    attempts: dict[Reference, tuple[Attempt, list[Reference]]] = field(default_factory=dict)
    results: list[Reference] | None = None
    found: Any = None
    failure: RayError | None = None
    starts: int = 0
    said: str = ""

    @property
    def ended(self) -> bool:
        """Whether there is a result, or an error that is final."""
        return self.results is not None or self.failure is not None or self.found is not None


def submit(
    function: "Callable[..., Any] | Telling",
    *args: Any,
    name: str = "",
    threads: int = 1,
    gpus: float = 0,
    retries: int = 3,
    returns: int = 1,
) -> Task:
    """Return a function as a Ray task with ``threads`` cores and ``gpus`` GPUs; logs and Ray call it ``name``.

    It starts when it is first waited for, and returns ``returns`` values, as a list where they are several.

    Inside the task torch computes on one core: work for more takes a pool of threads, so that results don't depend on
    their number. A lost worker is replaced and the task tried again; an error that the function raises is final.
    """
    plain = function.function if isinstance(function, Telling) else function
    kind = getattr(plain, "__name__", type(plain).__name__)
    called = name or kind

    def start(key: str, node: str | None) -> list[Reference]:
        options = _call.options(
            name=called,
            num_cpus=threads,
            num_gpus=gpus,
            max_retries=retries,
            num_returns=1 + returns,
            scheduling_strategy="DEFAULT" if node is None else NodeAffinitySchedulingStrategy(node, soft=True),
        )
        return list(options.remote(key, returns, function, *args))

    return Task(called, kind, start, threads, gpus)


def share(value: Any) -> Reference:
    """Put a value into the object store once, so that many tasks can take it."""
    return ray.put(value)


def gather(
    tasks: Sequence[Task], *, title: str = "", limits: Limits | None = None, shown: Progress = QUIET
) -> list[Any]:
    """Wait for all tasks and return their values; the first error ends the wait.

    Raises the RelatifError that a task raised, ClusterError when Ray lost it too often, or nobody is left to work.
    """
    _settle(tasks, watch_of(tasks, title, limits), shown)
    return [value_of(task) for task in tasks]


def settle(
    tasks: Sequence[Task], *, title: str = "", limits: Limits | None = None, shown: Progress = QUIET
) -> list[Reference]:
    """Wait for all tasks and return references to their values, which stay where they are. Raises as ``gather``."""
    _settle(tasks, watch_of(tasks, title, limits), shown)
    return [reference for task in tasks for reference in results_of(task)]


def watch_of(tasks: Sequence[Task], title: str = "", limits: Limits | None = None) -> Watch:
    """Return a new watch over tasks, which logs call ``title``, or as the first of them."""
    threads, gpus = (max((getattr(task, what) for task in tasks), default=1) for what in ("threads", "gpus"))
    return Watch(title or next((task.name for task in tasks), ""), limits or Limits(), threads, gpus)


def wait(tasks: Sequence[Task], *, watch: Watch, shown: Progress = QUIET) -> tuple[list[Task], list[Task]]:
    """Wait until at least one task has ended; return the ended and the pending. Raises as ``Watch.look``."""
    for task in tasks:
        if not task.attempts and not task.ended:
            _start(task, watch.node_to_start_on(), watch)
    while not any(task.ended for task in tasks):
        owners = {reference: task for task in tasks for reference in task.attempts}
        # Not fetched: a large value stays where it was computed until somebody reads it.
        ready, _ = ray.wait(list(owners), num_returns=1, timeout=TICK_SECONDS, fetch_local=False)
        for reference in ready:
            _look_at_result(owners[reference], reference, watch)
            if owners[reference].said:
                shown.tell(None, owners[reference].said)
        _watch_over(tasks, watch, shown)
    return [task for task in tasks if task.ended], [task for task in tasks if not task.ended]


def value_of(task: Task) -> Any:
    """Return a finished task's value, or raise what its function raised."""
    _raise_failure(task)
    if task.results is None:
        return task.found
    try:
        values = ray.get(task.results)
    except RayError as error:
        raise explained(error, task.name) from error
    return values[0] if len(values) == 1 else values


def results_of(task: Task) -> list[Reference]:
    """Return references to a finished task's values, or raise what its function raised."""
    _raise_failure(task)
    assert task.results is not None
    return task.results


def _settle(tasks: Sequence[Task], watch: Watch, shown: Progress) -> None:
    pending = list(tasks)
    while pending:
        # Looked at as they come, so that the first error is not kept waiting by slower tasks.
        done, pending = wait(pending, watch=watch, shown=shown)
        for task in done:
            _raise_failure(task)


def _raise_failure(task: Task) -> None:
    if task.failure is not None:
        error = explained(task.failure, task.name)
        if error is task.failure:
            raise error
        raise error from task.failure


def _start(task: Task, node: str | None, watch: Watch) -> None:
    key = new_key()
    references = task.start(key, node)
    task.starts += 1
    attempt = watch.handed(task.name, references[0], key, kind=task.kind)
    attempt.threads = task.threads
    task.attempts[references[0]] = attempt, references[1:]


def _look_at_result(task: Task, receipt: Reference, watch: Watch) -> None:
    attempt, results = task.attempts.pop(receipt)
    try:
        task.said = str(ray.get(receipt))
        task.results = results
        watch.ended(attempt)
    except RayTaskError as error:
        task.failure = error
    except RayError as error:
        # As long as another attempt is in hand nothing is lost.
        task.found = task.find()
        if not task.attempts and task.found is None:
            task.failure = error
    if task.ended:
        _cancel(task)


def _cancel(task: Task) -> None:
    """End the other attempts, which would hold their cores."""
    for receipt in task.attempts:
        ray.cancel(receipt, force=True)
    task.attempts.clear()


def _watch_over(tasks: Sequence[Task], watch: Watch, shown: Progress) -> None:
    """Tell what is done, and start again what is silent or slow."""
    attempts = {attempt: task for task in tasks for attempt, _ in task.attempts.values()}
    doubted = watch.look(list(attempts))
    for attempt in doubted:
        task = attempts[attempt]
        task.found = task.find()
        if task.found is not None:
            _cancel(task)
        elif task.starts <= watch.limits.retries and not _others_at_work(task, attempt, watch):
            _start(task, watch.node_for_second_start(attempt), watch)
    for attempt, task in attempts.items():
        if len(task.attempts) > 1 and watch.without_room(attempt) and not _others_at_work(task, attempt, watch):
            # Ray ends even a process that was stopped, and its cores are free for the second start.
            ray.cancel(attempt.reference, force=True)
            attempt.allowed_s = math.inf
    _ask_anew(tasks, watch)
    telling = [attempt.sign for attempt in attempts if attempt.sign is not None and attempt.sign.text]
    if len(tasks) == 1 and telling:
        shown.tell(telling[-1].share, telling[-1].text)
    shown.tick()


def _others_at_work(task: Task, attempt: Attempt, watch: Watch) -> bool:
    others = (other for other, _ in task.attempts.values() if other is not attempt)
    return any(other.begun is not None and not watch.silent(other) for other in others)


def _ask_anew(tasks: Sequence[Task], watch: Watch) -> None:
    """Start anew what never began, where nobody is at work."""
    waiting = {attempt: task for task in tasks for attempt, _ in task.attempts.values() if attempt.begun is None}
    for attempt in watch.to_ask_anew({attempt: attempt.heard for attempt in waiting}):
        task = waiting[attempt]
        ray.cancel(attempt.reference, force=True)
        del task.attempts[attempt.reference]
        task.starts -= 1  # it never began
        _start(task, watch.node_for_second_start(attempt), watch)


@ray.remote
def _call(key: str, returns: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """Return what was told last, which the driver reads, and the values, which may stay in the object store."""
    torch.set_num_threads(1)
    signs = Signs()
    bound = partial(function.function, signs.tell) if isinstance(function, Telling) else function
    with signs.during(key):
        value = bound(*args)
    return [signs.text, *(value if returns > 1 else [value])]
