"""The reduction tree covers every shard once and has one shape, however the shards are cut into tasks."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relatif.pipeline.cluster import reduction
from relatif.pipeline.cluster.reduction import Spread, reduce_node, reduce_shards, whole_nodes
from relatif.pipeline.cluster.tasks import gather, share, submit
from relatif.schemas.errors import DataError

COUNTS = st.integers(1, 70)


@dataclass(frozen=True)
class Merges:
    """Says in which order shards were merged."""

    text: str

    def merge(self, other: "Merges") -> "Merges":
        return Merges(f"({self.text} {other.text})")


@dataclass(frozen=True)
class Total:
    """A float32 sum, whose rounding depends on the order of additions."""

    value: np.float32

    def merge(self, other: "Total") -> "Total":
        return Total(np.float32(self.value + other.value))


def named(shards: Sequence[int]) -> Iterator[Merges]:
    """Yield each shard's number."""
    for shard in shards:
        yield Merges(str(shard))


def terms(shards: Sequence[int]) -> Iterator[Total]:
    """Yield terms of very different sizes, as Kronecker sums of real shards are not: any other order shows."""
    for shard in shards:
        yield Total(np.float32(np.random.default_rng(shard).standard_normal() * 10.0 ** (shard % 7)))


def unchanged(value: Any) -> Any:
    return value


def refuse_the_third(shards: Sequence[int]) -> Iterator[Total]:
    """Meet damaged data in shard 3."""
    for shard in shards:
        if shard == 3:
            raise DataError("expected whole data, found shard 3 damaged; copy it")
        yield Total(np.float32(1))


def expected_shape(start: int, stop: int) -> str:
    """The tree by its own rule: the left half of a range is the largest power of two below its length."""
    length = stop - start
    if length == 1:
        return str(start)
    middle = start + 2 ** ((length - 1).bit_length() - 1)
    return f"({expected_shape(start, middle)} {expected_shape(middle, stop)})"


def covered(node: tuple[int, int], count: int) -> list[int]:
    level, index = node
    return list(range(index << level, min((index + 1) << level, count)))


def fewest(start: int, stop: int, count: int) -> int:
    """The least number of tree nodes that cover a range, by trying all."""
    levels = range(count.bit_length() + 1)
    steps = {(s, min(s + 2**level, count)) for level in levels for s in range(0, count, 2**level)}
    best = {stop: 0}
    for place in range(stop - 1, start - 1, -1):
        best[place] = 1 + min(best[end] for begin, end in steps if begin == place and end <= stop)
    return best[start]


@given(COUNTS, st.data())
def test_whole_nodes_cover_a_range_once_in_order_and_with_the_fewest_nodes(count: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, count - 1))
    stop = data.draw(st.integers(start + 1, count))
    nodes = whole_nodes(start, stop, count)
    assert [shard for node in nodes for shard in covered(node, count)] == list(range(start, stop))
    assert len(nodes) == fewest(start, stop, count)


@given(COUNTS)
def test_the_whole_range_is_one_node(count: int) -> None:
    (root,) = whole_nodes(0, count, count)
    assert reduce_node(root, named(range(count)), count).text == expected_shape(0, count)


def test_a_node_takes_no_more_values_than_its_shards() -> None:
    values = named(range(4, 12))
    assert reduce_node((2, 1), values, 12).text == "((4 5) (6 7))"
    assert next(values).text == "8"


class Inline:
    """Stands for Ray: tasks run when they are submitted, and end in an order that the test draws."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.in_hand = self.most_in_hand = 0
        self.gpus: list[float] = []

    def submit(self, function: Any, *args: Any, gpus: float = 0, returns: int = 0, **_: Any) -> Any:
        """Tasks over shards say how many values they return, merges don't."""
        self.gpus.append(gpus)
        self.in_hand += returns > 0
        self.most_in_hand = max(self.most_in_hand, self.in_hand)
        result = function(*args)
        return Done(result if returns > 1 else [result], over_shards=returns > 0)

    def wait(self, tasks: "list[Done]", **_: Any) -> "tuple[list[Done], list[Done]]":
        chosen = self.data.draw(st.integers(0, len(tasks) - 1))
        self.in_hand -= tasks[chosen].over_shards
        return [tasks[chosen]], tasks[:chosen] + tasks[chosen + 1 :]

    def patched(self) -> Any:
        return patch.multiple(reduction, submit=self.submit, wait=self.wait, results_of=lambda task: task.results)


@dataclass(eq=False)
class Done:
    """A task that has ended: equal to nothing but itself."""

    results: list[Any]
    over_shards: bool


@given(COUNTS, st.integers(1, 80), st.integers(1, 6), st.data())
def test_every_split_into_tasks_merges_in_the_same_order(
    count: int, shards_per_task: int, in_flight: int, data: st.DataObject
) -> None:
    ray, seen = Inline(data), []
    with ray.patched():
        root = reduce_shards(named, count, Spread(shards_per_task, lambda: in_flight), done=seen.append)
    assert root.text == expected_shape(0, count)
    assert sum(seen) == count
    assert ray.in_hand == 0
    assert ray.most_in_hand == min(in_flight, -(-count // shards_per_task))


@given(COUNTS, st.sampled_from([0, 0.5, 1]), st.data())
def test_tasks_over_shards_have_the_gpus_and_merges_have_none(count: int, gpus: float, data: st.DataObject) -> None:
    ray = Inline(data)
    with ray.patched():
        reduce_shards(named, count, Spread(shards_per_task=1, in_flight=lambda: 3, gpus=gpus))
    assert sorted(ray.gpus) == [0] * (count - 1) + [gpus] * count


@given(COUNTS, st.data())
def test_tasks_of_unequal_size_merge_in_the_same_order(count: int, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(1, count - 1)))) if count > 1 else []
    tree = reduction._Tree(count, Spread(1, lambda: 1))
    with Inline(data).patched():
        for start, stop in data.draw(st.permutations(list(pairwise([0, *cuts, count])))):
            values = named(range(start, stop))
            for node in whole_nodes(start, stop, count):
                tree.place(node, reduce_node(node, values, count))
            while tree.running:
                tree.take(data.draw(st.sampled_from(list(tree.running))))
    ((_, root),) = tree.nodes.items()
    assert root.text == expected_shape(0, count)


@pytest.mark.parametrize("shards_per_task", [1, 3, 4, 100])
def test_on_ray_a_float32_sum_is_the_same_for_every_split(local_ray: None, shards_per_task: int) -> None:
    count = 13
    by_tree = _tree_sum([term.value for term in terms(range(count))])
    from_left = sum((term.value for term in terms(range(count))), np.float32(0))
    assert by_tree != from_left, "the terms must tell orders of addition apart"

    seen: list[int] = []
    root = reduce_shards(share(terms), count, Spread(shards_per_task, lambda: 2), done=seen.append)
    (total,) = gather([submit(unchanged, root)])
    assert total.value == by_tree
    assert sum(seen) == count


def test_on_ray_an_error_of_a_shard_ends_the_reduction(local_ray: None) -> None:
    with pytest.raises(DataError, match=r"^expected whole data, found shard 3 damaged; copy it$"):
        reduce_shards(share(refuse_the_third), 9, Spread(shards_per_task=2, in_flight=lambda: 2))


def _tree_sum(values: list[np.float32]) -> np.float32:
    if len(values) == 1:
        return values[0]
    middle = 2 ** ((len(values) - 1).bit_length() - 1)
    return np.float32(_tree_sum(values[:middle]) + _tree_sum(values[middle:]))
