"""Labels as a run sees them: merged by division, flipped by row and seed, against hand-written arithmetic."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.labels import PUBLISHED, Labelling

ROWS, CLASSES = 20_000, 5
LABELS = torch.from_numpy(np.random.default_rng(0).integers(0, CLASSES, ROWS))
DEVIATIONS = 5
"""Standard deviations of a binomial count: a correct draw goes beyond them once in two million."""


def seen(labelling: Labelling, labels: torch.Tensor = LABELS, first: int = 0) -> torch.Tensor:
    return labelling.seen(labels, "train", first_row=first, class_count=CLASSES)


def within(count: int, trials: int, probability: float) -> bool:
    return abs(count - trials * probability) <= DEVIATIONS * (trials * probability * (1 - probability)) ** 0.5


def splitmix(state: int) -> int:
    """SplitMix64 in Python's integers, as its authors wrote it."""
    state = (state + 0x9E3779B97F4A7C15) % 2**64
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ state >> 27) * 0x94D049BB133111EB % 2**64
    return state ^ state >> 31


def number(seed: int, draw: int, row: int) -> float:
    return (splitmix(splitmix(splitmix(seed) + draw) + row) >> 11) / 2**53


def test_labels_of_the_data_are_left_as_they_are() -> None:
    assert torch.equal(seen(PUBLISHED), LABELS)
    assert PUBLISHED.class_names("abc") == ("a", "b", "c")
    assert not PUBLISHED.flipped(torch.arange(1000)).any()


def test_merged_classes_are_quotients_and_their_names_are_joined() -> None:
    labels = torch.arange(7)
    merged = Labelling(merge=3).seen(labels, "test", first_row=0, class_count=3)
    assert merged.tolist() == [0, 0, 0, 1, 1, 1, 2]
    assert Labelling(merge=3).class_names("0123456") == ("0+1+2", "3+4+5", "6")


def test_flips_are_those_of_integer_arithmetic() -> None:
    labelling = Labelling(flip_share=0.3, flip_seed=11)
    expected = []
    for row, label in enumerate(LABELS[:300].tolist()):
        step = 1 + int(number(11, 2**32 + 1, row) * (CLASSES - 1))
        expected.append((label + step) % CLASSES if number(11, 2**32, row) < 0.3 else label)
    assert seen(labelling, LABELS[:300]).tolist() == expected
    assert expected != LABELS[:300].tolist()


def test_every_flip_changes_the_label_to_each_other_class_alike() -> None:
    labelling = Labelling(flip_share=0.4, flip_seed=3)
    after, flipped = seen(labelling), labelling.flipped(torch.arange(ROWS))
    assert torch.equal(after != LABELS, flipped)
    assert within(int(flipped.sum()), ROWS, 0.4)
    steps = torch.bincount((after - LABELS)[flipped] % CLASSES, minlength=CLASSES).tolist()
    assert steps[0] == 0
    assert all(within(count, int(flipped.sum()), 1 / (CLASSES - 1)) for count in steps[1:])


@pytest.mark.parametrize("cuts", [[1], [7, 50, 51], list(range(100, ROWS, 1000))])
def test_flips_do_not_depend_on_the_shards(cuts: list[int]) -> None:
    labelling = Labelling(flip_share=0.2, flip_seed=1)
    borders = [0, *cuts, ROWS]
    parts = [seen(labelling, LABELS[a:b], a) for a, b in pairwise(borders)]
    assert torch.equal(torch.cat(parts), seen(labelling))


def test_the_seed_decides_and_a_larger_share_flips_the_same_rows_and_more() -> None:
    rows = torch.arange(ROWS)
    few, more, other = (Labelling(flip_share=s, flip_seed=n).flipped(rows) for s, n in ((0.1, 0), (0.3, 0), (0.1, 1)))
    assert (more & few).equal(few)
    assert more.sum() > few.sum()
    assert not few.equal(other)


def test_labels_of_the_test_set_are_never_flipped() -> None:
    labelling = Labelling(merge=2, flip_share=0.9)
    assert torch.equal(labelling.seen(LABELS, "test", first_row=0, class_count=3), LABELS // 2)


def test_flips_change_merged_classes() -> None:
    labelling = Labelling(merge=2, flip_share=0.5)
    after = labelling.seen(LABELS, "train", first_row=0, class_count=3)
    assert torch.equal(after != LABELS // 2, labelling.flipped(torch.arange(ROWS)))
    assert after.unique().tolist() == [0, 1, 2]


def test_it_says_what_it_does() -> None:
    assert PUBLISHED.text == "the data's"
    assert Labelling(2, 0.1, 4).text == "label // 2 of the data's; 0.1 of the training set's flipped, seed 4"
