"""How explanations share training examples: in how many each stands, how few reach many inputs, of which class.

Axes: M explained inputs, K ranks, N training examples, C classes. Lists are [M, K], EMPTY beyond their end.
"""

import heapq
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page.tables import EMPTY, NO_CLASS

Listed = NDArray[np.int32]
Counts = NDArray[np.int64]

MOST_EXAMPLES = 20_000
"""Examples after which a greedy cover ends, whatever it has reached."""

CURVE_POINTS = 80


def fan_out(lists: Listed, count: int) -> Counts:
    """Return in how many of the lists each of ``count`` training examples stands, [N]."""
    return np.bincount(lists[lists != EMPTY], minlength=count)


def typical(lists: Listed, fan: Counts) -> int:
    """Return the median, over all places of all lists, of the number of inputs that the listed example explains."""
    listed = lists[lists != EMPTY]
    return int(np.median(fan[listed])) if len(listed) else 0


@dataclass(frozen=True, eq=False)
class Reach:
    """A greedy cover: ``examples`` in the order in which they are taken, ``share`` of the inputs reached after each."""

    examples: NDArray[np.int64]
    share: NDArray[np.float64]

    def needed(self, share: float) -> int | None:
        """Return how many examples it takes to reach a share of the inputs, None where the cover ends before."""
        enough = np.flatnonzero(self.share >= share - 1e-12)
        return int(enough[0]) + 1 if len(enough) else None

    def curve(self, points: int = CURVE_POINTS) -> list[list[float]]:
        """Return pairs of a number of examples and the share that they reach, evenly on a logarithmic axis."""
        if not len(self.share):
            return []
        counts = np.unique(np.geomspace(1, len(self.share), points).round().astype(np.int64))
        return [[int(count), round(float(self.share[count - 1]), 4)] for count in counts]


def reach(lists: Listed, most: int = MOST_EXAMPLES) -> Reach:
    """Take, again and again, the example that explains most inputs not reached yet; equal ones by their index.

    An input is reached once an example of its list is taken.
    """
    inputs = np.broadcast_to(np.arange(len(lists))[:, None], lists.shape)[lists != EMPTY]
    names, codes = np.unique(lists[lists != EMPTY], return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(names) + 1))
    gains = np.diff(starts)
    members = np.full(lists.shape, EMPTY)
    members[lists != EMPTY] = codes
    reached = np.zeros(len(lists), np.bool_)
    # An example's gain only falls, so one whose noted gain still holds at the top is the best.
    queue = [(-int(gain), number) for number, gain in enumerate(gains)]
    heapq.heapify(queue)
    taken: list[int] = []
    shares: list[float] = []
    total = 0
    while queue and len(taken) < most:
        noted, number = heapq.heappop(queue)
        if -noted != gains[number]:
            if gains[number] > 0:
                heapq.heappush(queue, (-int(gains[number]), number))
            continue
        own = inputs[order[starts[number] : starts[number + 1]]]
        new = own[~reached[own]]
        reached[new] = True
        lost = members[new].ravel()
        np.subtract.at(gains, lost[lost != EMPTY], 1)
        total += len(new)
        taken.append(int(names[number]))
        shares.append(total / len(lists))
    return Reach(np.array(taken, np.int64), np.array(shares, np.float64))


def class_counts(rows: NDArray[np.int32], columns: NDArray[np.int32], classes: int) -> Counts:
    """Return how often a class of ``rows`` meets one of ``columns``, [C, C]; pairs without a class don't count."""
    known = (rows > NO_CLASS) & (rows < classes) & (columns > NO_CLASS) & (columns < classes)
    flat = rows[known].astype(np.int64) * classes + columns[known]
    return np.bincount(flat, minlength=classes * classes).reshape(classes, classes)


def helper_classes(lists: Listed, explained: NDArray[np.int32], labels: NDArray[np.int32], classes: int) -> Counts:
    """Return how often an explained class [M] is helped by an example of a class, by its label [N]: [C, C]."""
    there = lists != EMPTY
    rows = np.broadcast_to(explained[:, None], lists.shape)[there]
    return class_counts(rows, labels[lists[there]], classes)


def places_from_highest(values: NDArray[np.floating]) -> Counts:
    """Return the place of each value, 1 for the highest; of equal ones the first comes first, NaN last."""
    order = np.argsort(-np.nan_to_num(values, nan=-np.inf), kind="stable")
    places = np.empty(len(values), np.int64)
    places[order] = np.arange(1, len(values) + 1)
    return places
