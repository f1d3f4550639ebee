"""Agreement of predictions with outcomes: correlations, slopes, and a confidence interval.

Axes: R pairs of a prediction and its outcome, S subsets, M test inputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.schemas.errors import DataError

CONFIDENCE = 0.95


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Return Pearson's correlation of each row of x and y [..., R], [...]; not a number where one side is constant."""
    x, y = x - x.mean(dim=-1, keepdim=True), y - y.mean(dim=-1, keepdim=True)
    return (x * y).sum(dim=-1) / (x.square().sum(dim=-1) * y.square().sum(dim=-1)).sqrt()


def spearman(x: Tensor, y: Tensor) -> Tensor:
    """Return Spearman's correlation of each row of x and y [..., R]: Pearson's of the ranks.

    >>> x = torch.tensor([1.0, 2.0, 3.0, 4.0])
    >>> spearman(x, x.exp()).item(), spearman(x, -x).item()
    (1.0, -1.0)
    """
    return pearson(ranks(x), ranks(y))


def ranks(values: Tensor) -> Tensor:
    """Return each value's rank from 1 in its row of [..., R], float64; equal values share their mean rank.

    >>> ranks(torch.tensor([30.0, 10.0, 20.0, 10.0])).tolist()
    [4.0, 1.5, 3.0, 1.5]
    """
    values = values.contiguous()
    ordered = values.sort(dim=-1).values
    # Equal values fill the places below + 1 to upto of the sorted row: their mean is the shared rank.
    below, upto = (torch.searchsorted(ordered, values, right=right) for right in (False, True))
    return (below + upto + 1).double() / 2


def slope(x: Tensor, y: Tensor) -> float:
    """Return the c that minimizes ``||y - c x||`` for x and y [R]; not a number where all x are zero."""
    return float((x @ y) / (x @ x))


def median_ratio(x: Tensor, y: Tensor) -> float:
    """Return the median of y / x [R] where x is not 0; not a number where all are.

    A few large changes, whose second-order part is no longer small, don't move it.
    """
    ratios = y[x != 0] / x[x != 0]
    return float(ratios.quantile(0.5)) if len(ratios) else float("nan")


@dataclass(frozen=True)
class Interval:
    """A mean over ``count`` values and the ends of its confidence interval."""

    count: int
    mean: float
    low: float
    high: float


def mean_rank_correlation(predicted: Tensor, actual: Tensor, *, resamples: int, seed: int) -> Interval:
    """Return the mean over M of Spearman's correlations over S, of [M, S] each, with a 95% interval.

    Test inputs share the subsets, so their correlations are not independent. The interval is that of a bootstrap which
    draws subsets and test inputs, both with replacement, ``resamples`` times: its percentiles at 2.5 and 97.5%. Ranks
    are those among all subsets: ranked anew, subsets that are drawn twice would tie and pull correlations towards 0.

    A test input that is constant on one side has no correlation and does not count: where every model is certain, its
    loss is exactly 0. DataError where no test input has one.
    """
    predicted, actual = ranks(predicted), ranks(actual)
    found = pearson(predicted, actual)
    defined = ~found.isnan()
    if not bool(defined.any()):
        raise DataError(
            f"expected losses and summed scores that differ between subsets, found none for any of {len(found)} test "
            f"inputs; choose more test inputs, or look at the model's outputs"
        )
    predicted, actual, found = predicted[defined], actual[defined], found[defined]
    tests, subsets = predicted.shape
    generator = torch.Generator().manual_seed(seed)
    means = torch.empty(resamples, dtype=torch.float64)
    for number in range(resamples):
        some = torch.randint(subsets, (subsets,), generator=generator)
        rows = torch.randint(tests, (tests,), generator=generator)
        # A draw that repeats few subsets may be constant for a test input, which then has no correlation in it.
        means[number] = pearson(predicted[:, some], actual[:, some])[rows].nanmean()
    tail = (1 - CONFIDENCE) / 2
    low, high = means[~means.isnan()].quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Interval(tests, float(found.mean()), low, high)
