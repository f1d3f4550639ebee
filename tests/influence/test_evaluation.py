"""Shares and detection curves against definitions written out in numpy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relatif.pipeline.influence.evaluation import Share, agreement, detection
from relatif.schemas.errors import DataError

ROUNDING = 1e-12
"""Absolute: the reference adds up to 200 float64 numbers."""


def test_agreement_counts_equal_classes_with_the_binomial_error() -> None:
    found = agreement(torch.tensor([0, 1, 2, 2, 1]), torch.tensor([0, 1, 1, 2, 1]))
    assert (found.count, found.total, found.share) == (4, 5, 0.8)
    # The standard deviation of 0/1 outcomes over the root of their number.
    assert found.standard_error == pytest.approx(np.std([1, 1, 0, 1, 1]) / np.sqrt(5), rel=ROUNDING)
    assert Share(7, 7).standard_error == 0


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="at least one test input"):
        _ = agreement(torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64)).share


cases = st.integers(2, 200).flatmap(
    lambda n: st.tuples(
        # Few distinct values, so that there are ties.
        st.lists(st.integers(-3, 3), min_size=n, max_size=n),
        st.lists(st.booleans(), min_size=n, max_size=n).filter(any),
    )
)


@given(cases)
def test_curve_and_area_are_those_of_the_definition(case: tuple[list[int], list[bool]]) -> None:
    values, wrong = np.array(case[0], float), np.array(case[1])
    order = sorted(range(len(values)), key=lambda row: (-values[row], row))
    curve = np.concatenate([[0], np.cumsum(wrong[order])]) / wrong.sum()

    found = detection(torch.from_numpy(values), torch.from_numpy(wrong))
    inspected, share = found.curve(len(values) + 1)

    assert found.area == pytest.approx(np.trapezoid(curve, dx=1 / len(values)), abs=ROUNDING)
    assert inspected.numpy() == pytest.approx(np.arange(len(values) + 1) / len(values), abs=ROUNDING)
    for part in (0.05, 0.1, 0.2, 0.5, 1.0):
        assert found.found(part) == curve[round(part * len(values))]
    assert (share[0], share[-1]) == (0, 1)
    assert (share.diff() >= 0).all()


def test_the_curve_is_the_share_found() -> None:
    wrong = torch.zeros(64, dtype=torch.bool)
    wrong[[0, 3, 40]] = True
    found = detection(torch.arange(64).flip(0).double(), wrong)
    inspected, share = found.curve(65)
    assert share.tolist() == [found.found(part) for part in inspected.tolist()]
    assert found.places.tolist() == [1, 4, 41]


def test_the_best_and_the_worst_order_and_the_mean_of_random_ones() -> None:
    wrong = torch.arange(10) < 3
    assert detection(wrong.double(), wrong).area == 1 - 3 / 20
    assert detection(-wrong.double(), wrong).area == 3 / 20
    every = [detection(torch.randn(10, generator=torch.Generator().manual_seed(s)), wrong).area for s in range(2000)]
    assert np.mean(every) == pytest.approx(0.5, abs=5 * np.std(every) / 2000**0.5)


def test_what_is_no_number_is_refused_and_infinity_is_not() -> None:
    wrong = torch.tensor([False, True, False])
    with pytest.raises(DataError, match="found none for row 2"):
        detection(torch.tensor([1.0, 2.0, float("nan")]), wrong)
    assert detection(torch.tensor([1.0, float("inf"), 2.0]), wrong).places.tolist() == [1]
    with pytest.raises(DataError, match="wrong label among 3"):
        detection(torch.ones(3), wrong & False)
