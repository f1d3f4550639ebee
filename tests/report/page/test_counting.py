"""What lists have in common, against counting one by one."""

from itertools import combinations

import numpy as np
import pytest

from relatif.pipeline.report.page.counting import (
    class_counts,
    fan_out,
    helper_classes,
    places_from_highest,
    reach,
    typical,
)
from relatif.pipeline.report.page.tables import EMPTY

EXAMPLES = 12


def lists(seed: int, inputs: int = 30, ranks: int = 4) -> np.ndarray:
    chance = np.random.default_rng(seed)
    weights = 1 / np.arange(1, EXAMPLES + 1)
    rows = [chance.choice(EXAMPLES, ranks, replace=False, p=weights / weights.sum()) for _ in range(inputs)]
    found = np.array(rows, np.int32)
    found[3, 2:] = EMPTY
    return found


@pytest.mark.parametrize("seed", range(3))
def test_fan_out_counts_the_lists_that_an_example_stands_in(seed: int) -> None:
    found = lists(seed)
    expected = [sum(example in row.tolist() for row in found) for example in range(EXAMPLES)]
    assert fan_out(found, EXAMPLES).tolist() == expected
    listed = sorted(expected[example] for row in found for example in row if example != EMPTY)
    assert typical(found, fan_out(found, EXAMPLES)) == int(np.median(listed))


@pytest.mark.parametrize("seed", range(5))
def test_the_cover_takes_the_example_that_reaches_most_that_is_left(seed: int) -> None:
    found = lists(seed)
    members = {example: {row for row in range(len(found)) if example in found[row]} for example in range(EXAMPLES)}
    reached: set[int] = set()
    taken, shares = [], []
    while len(reached) < len(found):
        best = max(members, key=lambda example: (len(members[example] - reached), -example))
        reached |= members[best]
        taken.append(best)
        shares.append(len(reached) / len(found))
    cover = reach(found)
    assert cover.examples.tolist() == taken
    assert cover.share.tolist() == pytest.approx(shares)
    assert cover.needed(0.5) == next(count for count, share in enumerate(shares, 1) if share >= 0.5)
    # No pair of examples reaches more than the greedy pair by the known bound of 1 - 1/e.
    best_pair = max(len(members[a] | members[b]) for a, b in combinations(members, 2))
    assert shares[1] * len(found) >= (1 - 1 / np.e) * best_pair


def test_a_cover_ends_after_so_many_examples() -> None:
    cover = reach(np.arange(10, dtype=np.int32)[:, None], most=4)
    assert cover.share.tolist() == [0.1, 0.2, 0.3, 0.4]
    assert cover.needed(0.5) is None
    assert cover.curve()[-1] == [4, 0.4]


def test_classes_that_meet_are_counted_pair_by_pair() -> None:
    rows, columns = np.array([0, 1, 1, -1, 2], np.int32), np.array([0, 1, 0, 1, -1], np.int32)
    assert class_counts(rows, columns, 2).tolist() == [[1, 0], [1, 1]]

    found, labels = lists(0), np.arange(EXAMPLES, dtype=np.int32) % 3
    explained = np.arange(len(found), dtype=np.int32) % 3
    expected = np.zeros((3, 3), int)
    for row, own in zip(found, explained, strict=True):
        for example in row:
            if example != EMPTY:
                expected[own, labels[example]] += 1
    assert helper_classes(found, explained, labels, 3).tolist() == expected.tolist()


def test_places_begin_with_the_highest_and_end_with_what_is_no_number() -> None:
    values = np.array([1.0, 5.0, np.nan, 5.0, 2.0], np.float32)
    assert places_from_highest(values).tolist() == [4, 1, 5, 2, 3]
