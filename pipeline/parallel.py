"""Threads inside one process, each with one core of torch: results don't depend on how many there are."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def single_threaded_pool(threads: int) -> ThreadPoolExecutor:
    """Return a pool whose threads run torch on one core each.

    A matrix product split over threads rounds differently for every number of threads; one that runs whole in a
    thread does not. So work is cut into pieces of fixed shape and the pieces go to threads.
    """
    return ThreadPoolExecutor(max_workers=threads, initializer=torch.set_num_threads, initargs=(1,))


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], *, pool: ThreadPoolExecutor, ahead: int
) -> Iterator[Result]:
    """Yield ``function(item)`` in the order of ``items``, computing at most ``ahead`` items beyond the one awaited."""
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()
