"""Ray tasks: submit functions, pass references, wait with a heartbeat."""

from collections.abc import Callable, Sequence
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from relatif.schemas.errors import ClusterError, RelatifError

HEARTBEAT_SECONDS = 1.0

Reference = Any
"""A Ray object reference; where one is an argument of ``submit``, the function gets its value."""

Tick = Callable[[], None]
"""Called about once a second while waiting."""


def no_tick() -> None:
    """Do nothing: the heartbeat of a caller that shows no progress."""


def submit(
    function: Callable[..., Any],
    *args: Any,
    threads: int = 1,
    gpus: float = 0,
    retries: int = 3,
    returns: int = 1,
) -> Any:
    """Run a function as a Ray task with ``threads`` cores and ``gpus`` GPUs.

    Returns its reference, or a list of references where ``returns`` > 1.

    Inside the task torch computes on one core: work for more takes a pool of threads, so that results don't depend on
    their number. A lost worker is replaced and the task tried again; an error that the function raises is final.
    """
    options = _call.options(num_cpus=threads, num_gpus=gpus, max_retries=retries, num_returns=returns)
    return options.remote(function, *args)


def share(value: Any) -> Reference:
    """Put a value into the object store once, so that many tasks can take it."""
    return ray.put(value)


def gather(references: Sequence[Reference], *, tick: Tick = no_tick) -> list[Any]:
    """Wait for all references and return their values; the first error ends the wait.

    Raises the RelatifError that a task raised, ClusterError when Ray lost it too often.
    """
    pending = list(references)
    while pending:
        # Read as they come, so that the first error is not kept waiting by slower tasks.
        done, pending = wait(pending, tick=tick)
        for reference in done:
            value_of(reference)
    return [value_of(reference) for reference in references]


def wait(references: Sequence[Reference], *, tick: Tick = no_tick) -> tuple[list[Reference], list[Reference]]:
    """Wait until at least one reference is done; return the done and the pending."""
    while True:
        # Not fetched: a large value stays where it was computed until somebody reads it.
        done, pending = ray.wait(list(references), num_returns=1, timeout=HEARTBEAT_SECONDS, fetch_local=False)
        tick()
        if done:
            return done, pending


def value_of(reference: Reference) -> Any:
    """Return a finished reference's value, or raise what its function raised."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, RelatifError):
            raise cause from error
        raise
    except RayError as error:
        raise ClusterError(
            f"expected workers to survive, found one lost more often than cluster.max_retries allows ({error}); "
            f"look at its node's memory and logs, then run the same command again: finished units are kept"
        ) from error


@ray.remote
def _call(function: Callable[..., Any], *args: Any) -> Any:
    torch.set_num_threads(1)
    return function(*args)
