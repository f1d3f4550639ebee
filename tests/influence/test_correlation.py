"""Correlations against known values and numpy; the interval against what it is to cover, by simulation."""

import numpy as np
import pytest
import torch
from torch import Tensor

from relatif.pipeline.influence.correlation import mean_rank_correlation, median_ratio, pearson, ranks, slope, spearman
from relatif.schemas.errors import DataError

ROUNDING = 1e-12
"""Of sums of at most 50 float64 numbers of order 1."""


def normal(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_pearson_is_numpys_for_every_row() -> None:
    x, y = normal(4, 50, seed=0), normal(4, 50, seed=1)
    found = pearson(x, x + y)
    expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(x.numpy(), (x + y).numpy(), strict=True)]
    np.testing.assert_allclose(found.numpy(), expected, atol=ROUNDING)
    assert bool(pearson(x, torch.ones(4, 50, dtype=torch.float64)).isnan().all())


def test_equal_values_share_their_mean_rank() -> None:
    assert ranks(torch.tensor([[0.0, 1, 1, 2], [3.0, 3, 3, 1]])).tolist() == [[1, 2.5, 2.5, 4], [3, 3, 3, 1]]
    # A transposed view, too: rows are what is ranked, however they lie in memory.
    assert ranks(torch.tensor([[0.0, 3], [1.0, 2]]).T).tolist() == [[1, 2], [2, 1]]


def test_spearman_against_known_values() -> None:
    x = normal(50, seed=2)
    assert float(spearman(x, (5 * x).exp())) == pytest.approx(1)
    assert float(pearson(x, (5 * x).exp())) < 0.9
    # Without ties: 1 - 6 sum d^2 / (n (n^2 - 1)), here d = (0, 1, 1, 0, 0).
    one, other = torch.tensor([1.0, 2, 3, 4, 5]), torch.tensor([10.0, 30, 20, 40, 50])
    assert float(spearman(one, other)) == pytest.approx(0.9)
    tied = spearman(torch.tensor([0.0, 1, 1, 2]), torch.tensor([0.0, 1, 2, 3]))
    assert float(tied) == pytest.approx(np.corrcoef([1, 2.5, 2.5, 4], [1, 2, 3, 4])[0, 1])


def test_slopes_and_ratios_against_known_values() -> None:
    x, zeros, ones = normal(50, seed=9), torch.zeros(3), torch.ones(3)
    assert slope(x, 3 * x) == pytest.approx(3)
    assert slope(torch.tensor([1.0, 2]), torch.tensor([2.0, 1])) == pytest.approx(4 / 5)
    assert median_ratio(torch.tensor([1.0, 0, 2, 1]), torch.tensor([3.0, 9, 2, 2])) == 2
    assert median_ratio(torch.tensor([1.0, 2]), torch.tensor([1.0, 4])) == 1.5
    assert np.isnan(slope(zeros, ones))
    assert np.isnan(median_ratio(zeros, ones))


def test_the_mean_is_that_over_test_inputs_and_lies_in_its_interval() -> None:
    predicted = normal(7, 30, seed=3)
    actual = predicted + normal(7, 30, seed=4)
    found = mean_rank_correlation(predicted, actual, resamples=300, seed=0)
    each = [float(spearman(a, b)) for a, b in zip(predicted, actual, strict=True)]
    assert found.mean == pytest.approx(np.mean(each))
    assert found.low < found.mean < found.high
    assert found == mean_rank_correlation(predicted, actual, resamples=300, seed=0)
    assert found != mean_rank_correlation(predicted, actual, resamples=300, seed=1)


def test_more_subsets_narrow_the_interval() -> None:
    widths = []
    for subsets in (20, 320):
        predicted = normal(40, subsets, seed=5)
        found = mean_rank_correlation(predicted, predicted + normal(40, subsets, seed=6), resamples=200, seed=0)
        widths.append(found.high - found.low)
    assert widths[1] < 0.5 * widths[0], "a quarter, if subsets were all that is left to chance"


def test_the_interval_covers_the_truth_where_test_inputs_share_what_chance_brought() -> None:
    """80 experiments of 10 inputs and 40 subsets; noise common to all inputs makes their correlations move together.

    The truth is Spearman's correlation of a normal pair, 6 / pi arcsin(rho / 2). With 95% each, 80 experiments cover it
    fewer than 66 times only once in 100,000; intervals that take the inputs for independent cover it 16 times here.
    """
    rho, covered = 0.5, 0
    truth = 6 / np.pi * np.arcsin(rho / 2)
    for experiment in range(80):
        common, own = normal(1, 40, seed=3 * experiment + 100), normal(10, 40, seed=3 * experiment + 101)
        predicted = (0.9**0.5) * common + (0.1**0.5) * own
        actual = rho * predicted + (1 - rho**2) ** 0.5 * normal(1, 40, seed=3 * experiment + 102)
        found = mean_rank_correlation(predicted, actual, resamples=200, seed=0)
        covered += found.low <= truth <= found.high
    assert covered >= 66


def test_an_input_of_constant_loss_does_not_count() -> None:
    predicted, actual = normal(3, 10, seed=7), normal(3, 10, seed=8)
    actual[1] = 0.25
    found = mean_rank_correlation(predicted, actual, resamples=50, seed=0)
    others = torch.tensor([0, 2])
    assert found == mean_rank_correlation(predicted[others], actual[others], resamples=50, seed=0)
    assert found.count == 2
    with pytest.raises(DataError, match=r"differ between subsets, found none for any of 3 test inputs"):
        mean_rank_correlation(predicted, torch.ones(3, 10), resamples=10, seed=0)
