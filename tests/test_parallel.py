"""Threads inside a process: order, bounded look-ahead, errors, and results that don't depend on their number."""

import threading
import time
from collections.abc import Iterator

import pytest
import torch

from relatif.pipeline.parallel import ordered_map, single_threaded_pool

torch.set_num_threads(1)

TIMEOUT = 20
"""Seconds after which a test that waits for another thread gives up."""


def slow_first(item: int) -> int:
    """Let later items finish before earlier ones."""
    time.sleep(0.02 if item % 4 == 0 else 0)
    return item * item


@pytest.mark.parametrize("ahead", [0, 1, 3, 100])
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_results_come_in_the_order_of_the_items(threads, ahead) -> None:
    with single_threaded_pool(threads) as pool:
        found = list(ordered_map(slow_first, range(17), pool=pool, ahead=ahead))

    assert found == [item * item for item in range(17)]


def test_nothing_to_do_gives_nothing() -> None:
    with single_threaded_pool(2) as pool:
        assert list(ordered_map(slow_first, [], pool=pool, ahead=2)) == []


@pytest.mark.parametrize("ahead", [0, 1, 4])
def test_look_ahead_is_bounded(ahead) -> None:
    """However fast items are computed, no more of them are taken than the consumer asked for, and those ahead."""
    taken = 0

    def items() -> Iterator[int]:
        nonlocal taken
        for item in range(30):
            taken += 1
            yield item

    with single_threaded_pool(3) as pool:
        results = ordered_map(lambda item: item, items(), pool=pool, ahead=ahead)
        assert taken == 0
        for asked in range(1, 31):
            assert next(results) == asked - 1
            assert taken == min(30, asked + ahead)


def test_items_ahead_are_computed_while_one_is_used() -> None:
    second = threading.Event()

    def compute(item: int) -> int:
        if item == 1:
            second.set()
        return item

    with single_threaded_pool(1) as pool:
        results = ordered_map(compute, range(3), pool=pool, ahead=1)
        next(results)
        assert second.wait(TIMEOUT)
        assert list(results) == [1, 2]


def test_an_error_comes_at_its_place_and_ends_the_work() -> None:
    computed: list[int] = []

    def compute(item: int) -> int:
        if item == 3:
            raise ValueError("item 3 is broken")
        time.sleep(0.01)
        computed.append(item)
        return item

    with single_threaded_pool(2) as pool:
        results = ordered_map(compute, range(1000), pool=pool, ahead=5)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="item 3 is broken"):
            next(results)
        with pytest.raises(StopIteration):
            next(results)

    assert len(computed) < 12


def test_an_error_of_the_items_comes_through() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more to read")

    with single_threaded_pool(2) as pool, pytest.raises(OSError, match="no more to read"):
        list(ordered_map(slow_first, items(), pool=pool, ahead=2))


def test_a_consumer_that_stops_cancels_what_has_not_begun() -> None:
    begun: list[int] = []
    release = threading.Event()

    def compute(item: int) -> int:
        begun.append(item)
        if item > 0:
            assert release.wait(TIMEOUT)
        return item

    with single_threaded_pool(1) as pool:
        results = ordered_map(compute, range(10), pool=pool, ahead=6)
        next(results)
        results.close()
        release.set()

    assert max(begun) <= 1


def test_torch_runs_on_one_core_in_every_thread() -> None:
    barrier = threading.Barrier(3)

    def cores(_: int) -> tuple[int, int]:
        barrier.wait(TIMEOUT)
        return threading.get_ident(), torch.get_num_threads()

    torch.set_num_threads(2)  # new threads take it over, unless told otherwise
    try:
        with single_threaded_pool(3) as pool:
            found = list(ordered_map(cores, range(3), pool=pool, ahead=3))
    finally:
        torch.set_num_threads(1)

    assert len({thread for thread, _ in found}) == 3
    assert {count for _, count in found} == {1}


def test_results_are_bitwise_the_same_for_any_number_of_threads() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(300, 700, generator=generator) for _ in range(6)]
    found = []
    for threads in (1, 2, 3):
        with single_threaded_pool(threads) as pool:
            products = ordered_map(lambda part: part.T @ part, parts, pool=pool, ahead=threads)
            found.append(sum(products, torch.zeros(700, 700)))

    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
