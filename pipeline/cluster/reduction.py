"""Sums over shards by a tree of fixed shape, so that rounding depends on the shards alone.

Node (level, i) of the tree covers shards [i 2^level, (i + 1) 2^level), as far as there are any, and is the merge of its
two children. A task over any range of shards returns the largest whole nodes in it; which task computed a node, when,
how often and where does not change its value.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, Self, TypeVar

from relatif.pipeline.cluster.tasks import Reference, Tick, no_tick, submit, value_of, wait

Node = tuple[int, int]


class Mergeable(Protocol):
    """A value with an associative merge."""

    def merge(self, other: Self) -> Self:
        """Return the value for both ranges, this one's first."""
        ...


Value = TypeVar("Value", bound=Mergeable)


def whole_nodes(start: int, stop: int, count: int) -> list[Node]:
    """Return the fewest tree nodes that together cover shards [start, stop) of ``count``, in order."""
    nodes = []
    while start < stop:
        level = 0
        # The largest node that begins here: a multiple of its width, inside the range, not above the root.
        while start % 2 ** (level + 1) == 0 and min(start + 2 ** (level + 1), count) <= stop and 2**level < count:
            level += 1
        nodes.append((level, start >> level))
        start += 2**level
    return nodes


def reduce_node(node: Node, leaves: Iterable[Value], count: int) -> Value:
    """Merge the values of a node's shards, given in order, in the tree's shape."""
    level, index = node
    values = iter(leaves)
    return _reduce(level, index, values, count)


@dataclass(frozen=True)
class Spread:
    """How shards are spread over tasks: shards and GPUs of a task, and tasks that are submitted at a time."""

    shards_per_task: int
    in_flight: int
    gpus: float = 0


def reduce_shards(
    shared: Reference,
    count: int,
    spread: Spread,
    *,
    tick: Tick = no_tick,
    done: Callable[[int], None] = lambda shards: None,
) -> Reference:
    """Return a reference to the merge over shards 0 .. count - 1 of what ``compute(shards)`` yields for each.

    ``shared`` refers to ``compute``: put there once, taken by every task. ``done`` is called with the
    number of shards of each finished task.
    """
    nodes: dict[Node, Reference] = {}
    running: set[Reference] = set()
    for start in range(0, count, spread.shards_per_task):
        while len(running) >= spread.in_flight:
            _collect(running, tick, done)
        stop = min(start + spread.shards_per_task, count)
        # The nodes of a task are known before it runs, so merges are submitted at once and wait inside Ray.
        names = whole_nodes(start, stop, count)
        receipt, *parts = submit(_partial, shared, start, stop, count, gpus=spread.gpus, returns=1 + len(names))
        running.add(receipt)
        for name, part in zip(names, parts, strict=True):
            _place(nodes, name, part, count)
    while running:
        _collect(running, tick, done)
    # All nodes have been merged upwards into one.
    ((_, root),) = nodes.items()
    return root


def _partial(compute: Callable[[Sequence[int]], Iterator[Value]], start: int, stop: int, count: int) -> list[Any]:
    """Return the number of shards, which the driver reads, and the nodes' values, which stay in the object store."""
    values = compute(range(start, stop))
    # One iterator for all nodes: each takes the values of its own shards from it, in order.
    return [stop - start, *(reduce_node(node, values, count) for node in whole_nodes(start, stop, count))]


def _reduce(level: int, index: int, values: Iterator[Value], count: int) -> Value:
    if level == 0:
        return next(values)
    left = _reduce(level - 1, 2 * index, values, count)
    # The right child covers no shard.
    if (2 * index + 1) << (level - 1) >= count:
        return left
    return left.merge(_reduce(level - 1, 2 * index + 1, values, count))


def _place(nodes: dict[Node, Reference], node: Node, part: Reference, count: int) -> None:
    """Put a node's value in place and merge it upwards as long as its sibling is there."""
    while 2 ** node[0] < count:
        level, index = node
        sibling = (level, index ^ 1)
        # A left child whose sibling covers no shard moves up unchanged.
        alone = index % 2 == 0 and sibling[1] << level >= count
        if not alone:
            # The sibling merges both when it is placed.
            if sibling not in nodes:
                break
            other = nodes.pop(sibling)
            part = submit(_merge, *((part, other) if index % 2 == 0 else (other, part)))
        node = (level + 1, index // 2)
    nodes[node] = part


def _merge(left: Value, right: Value) -> Value:
    return left.merge(right)


def _collect(running: set[Reference], tick: Tick, done: Callable[[int], None]) -> None:
    finished, _ = wait(list(running), tick=tick)
    for reference in finished:
        running.discard(reference)
        done(value_of(reference))
