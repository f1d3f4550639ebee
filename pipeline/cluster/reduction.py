"""Sums over shards by a tree of fixed shape, so that rounding depends on the shards alone.

Node (level, i) of the tree covers shards [i 2^level, (i + 1) 2^level), as far as there are any, and is the merge of its
two children. A task over any range of shards returns the largest whole nodes in it; which task computed a node, when,
how often and where does not change its value.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from relatif.pipeline.cluster.attempts import Limits, Watch
from relatif.pipeline.cluster.tasks import Reference, Task, results_of, submit, wait
from relatif.pipeline.console import QUIET, Progress

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
    """How shards are spread over tasks: shards and GPUs of a task, and how many tasks there are at a time, as asked.

    ``title`` is what logs and Ray call the whole.
    """

    shards_per_task: int
    in_flight: Callable[[], int]
    gpus: float = 0
    title: str = "sums"
    limits: Limits = field(default_factory=Limits)


def reduce_shards(
    shared: Reference,
    count: int,
    spread: Spread,
    *,
    shown: Progress = QUIET,
    done: Callable[[int], None] = lambda shards: None,
) -> Reference:
    """Return a reference to the merge over shards 0 .. count - 1 of what ``compute(shards)`` yields for each.

    ``shared`` refers to ``compute``: put there once, taken by every task. ``done`` is called with the
    number of shards of each finished task.
    """
    tree = _Tree(count, spread)
    starts = deque(range(0, count, spread.shards_per_task))
    watch = Watch(spread.title, spread.limits, gpus=spread.gpus)
    while starts or tree.running:
        while starts and tree.tasks_over_shards < spread.in_flight():
            start = starts.popleft()
            tree.sum_shards(shared, start, min(start + spread.shards_per_task, count))
        ended, _ = wait(list(tree.running), watch=watch, shown=shown)
        for task in ended:
            done(tree.take(task))
    # All nodes have been merged upwards into one.
    ((_, root),) = tree.nodes.items()
    return root


def _partial(compute: Callable[[Sequence[int]], Iterator[Value]], start: int, stop: int, count: int) -> Any:
    """Return the nodes' values, which stay in the object store: one, or a list of several."""
    values = compute(range(start, stop))
    # One iterator for all nodes: each takes the values of its own shards from it, in order.
    made = [reduce_node(node, values, count) for node in whole_nodes(start, stop, count)]
    return made[0] if len(made) == 1 else made


def _reduce(level: int, index: int, values: Iterator[Value], count: int) -> Value:
    if level == 0:
        return next(values)
    left = _reduce(level - 1, 2 * index, values, count)
    # The right child covers no shard.
    if (2 * index + 1) << (level - 1) >= count:
        return left
    return left.merge(_reduce(level - 1, 2 * index + 1, values, count))


@dataclass
class _Tree:
    """The tree while it grows: values of nodes that wait for their sibling, and tasks with the nodes that they make.

    A merge is submitted when both its values are there, so that the driver may start it a second time.
    """

    count: int
    spread: Spread
    nodes: dict[Node, Reference] = field(default_factory=dict)
    running: dict[Task, tuple[list[Node], int]] = field(default_factory=dict)

    @property
    def tasks_over_shards(self) -> int:
        return sum(shards > 0 for _, shards in self.running.values())

    def sum_shards(self, shared: Reference, start: int, stop: int) -> None:
        """Submit the sums over shards [start, stop)."""
        names = whole_nodes(start, stop, self.count)
        name = f"{self.spread.title} {start:05d}-{stop - 1:05d}"
        asked = partial(submit, name=name, gpus=self.spread.gpus, retries=self.spread.limits.retries)
        self.running[asked(_partial, shared, start, stop, self.count, returns=len(names))] = names, stop - start

    def take(self, task: Task) -> int:
        """Put the results of a finished task in place; return the number of shards that it read."""
        names, shards = self.running.pop(task)
        for name, result in zip(names, results_of(task), strict=True):
            self.place(name, result)
        return shards

    def place(self, node: Node, part: Reference) -> None:
        """Put a node's value in place, and merge it where its sibling is there."""
        while 2 ** node[0] < self.count:
            level, index = node
            sibling = (level, index ^ 1)
            # A left child whose sibling covers no shard moves up unchanged.
            alone = index % 2 == 0 and sibling[1] << level >= self.count
            if not alone:
                # The sibling merges both when it is placed.
                if sibling not in self.nodes:
                    break
                other = self.nodes.pop(sibling)
                left, right = (part, other) if index % 2 == 0 else (other, part)
                above = (level + 1, index // 2)
                name = f"{self.spread.title} merge {above[0]}-{above[1]:05d}"
                self.running[submit(_merge, left, right, name=name, retries=self.spread.limits.retries)] = [above], 0
                return
            node = (level + 1, index // 2)
        self.nodes[node] = part


def _merge(left: Value, right: Value) -> Value:
    return left.merge(right)
