"""Statistics of explanations: sets of influential examples (Table 1) and how much two methods agree (section 4.3).

Axes: N training examples, M test inputs, K ranks of which the first k are counted.
Every result of a block is a value with an exact, associative merge, so no split of the rows changes a bit of it.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor

from relatif.schemas.errors import ConfigurationError, DataError

_MANTISSA_BITS = 53
_LOW_BITS = 26


@dataclass(frozen=True)
class InfluenceSet:
    """The distinct training examples, ``members`` [N] bool, among the top k of ``test_count`` test inputs."""

    k: int
    members: Tensor
    test_count: int

    def merge(self, other: "InfluenceSet") -> "InfluenceSet":
        """Unite with the set of other test inputs, over the same training examples and with the same k."""
        return InfluenceSet(self.k, self.members | other.members, self.test_count + other.test_count)


@dataclass(frozen=True)
class SetSummary:
    """Size of a set, mean and population standard deviation (divisor: size) of the probabilities of its members."""

    cardinality: int
    mean: float
    std: float


@dataclass(frozen=True)
class SetMoments:
    """Size of a set and the exact sums of its members' probabilities and of their squares."""

    size: int
    total: Fraction
    squares: Fraction

    def merge(self, other: "SetMoments") -> "SetMoments":
        """Add the moments of other training rows."""
        return SetMoments(self.size + other.size, self.total + other.total, self.squares + other.squares)

    def summary(self) -> SetSummary:
        """Return size, mean and standard deviation, each rounded once. Raises DataError for an empty set."""
        if self.size == 0:
            raise DataError("expected a set with at least one training example, found an empty one; score a test input")
        mean = self.total / self.size
        return SetSummary(self.size, float(mean), math.sqrt(self.squares / self.size - mean * mean))


def influence_set(top_k: Tensor, *, k: int, train_count: int) -> InfluenceSet:
    """Return the distinct training examples among the first k ranks of ``top_k`` [M, K] (train indices, int64).

    Raises ConfigurationError when k is not between 1 and K, DataError when an index is not between 0 and N - 1.
    """
    chosen = _first_ranks(top_k, k).flatten()
    outside = chosen[(chosen < 0) | (chosen >= train_count)]
    if len(outside):
        raise DataError(
            f"expected train indices between 0 and {train_count - 1} in top_k, found {int(outside[0])}; "
            f"compute top_k and train_examples from the same training set"
        )
    members = torch.zeros(train_count, dtype=torch.bool)
    members[chosen] = True
    return InfluenceSet(k, members, len(top_k))


def set_moments(members: Tensor, probabilities: Tensor) -> SetMoments:
    """Sum the probabilities, and their squares, of the members [n] bool among some training rows.

    ``probabilities`` [n] are the model's, of each row's own label. Raises DataError when one lies outside 0 to 1.
    """
    # The square of a float32 has 48 bits, so it is exact in float64.
    chosen = probabilities[members].double()
    outside = chosen[~((chosen >= 0) & (chosen <= 1))]
    if len(outside):
        raise DataError(
            f"expected probabilities between 0 and 1, found {float(outside[0])} in train_examples; "
            f"look at the model's outputs and run the score stage again"
        )
    return SetMoments(len(chosen), _exact_sum(chosen), _exact_sum(chosen * chosen))


def overlap_counts(a: Tensor, b: Tensor, *, k: int) -> int:
    """Count the common members of the first k ranks of ``a`` and of ``b`` [M, K], summed over test inputs.

    The overlap of two methods is this divided by k * M. Raises ConfigurationError when k is not between 1 and K.
    """
    mine = _first_ranks(a, k).sort(dim=1).values
    theirs = _first_ranks(b, k).sort(dim=1).values
    # Where mine would stand among theirs; a value beyond the last is compared with the last, and differs.
    place = torch.searchsorted(theirs, mine).clamp_(max=k - 1)
    common = theirs.gather(1, place) == mine
    # A member that stands twice counts once.
    common[:, 1:] &= mine[:, 1:] != mine[:, :-1]
    return int(common.sum())


def _first_ranks(top_k: Tensor, k: int) -> Tensor:
    if not 1 <= k <= top_k.shape[1]:
        raise ConfigurationError(
            f"expected k between 1 and {top_k.shape[1]}, the ranks of the top_k table, found {k}; "
            f"lower k or run the score stage with a larger score.top_k"
        )
    return top_k[:, :k].contiguous()


def _exact_sum(values: Tensor) -> Fraction:
    """Sum finite float64 values without rounding, by adding the integer mantissas of each exponent."""
    # value = mantissa 2^(exponent - 53) with a whole mantissa, and whole numbers add up exactly in any order.
    fraction, exponent = torch.frexp(values)
    mantissa = (fraction * 2.0**_MANTISSA_BITS).long()
    exponents, place = exponent.unique(return_inverse=True)
    # Two halves, so that an int64 holds the sum of 2^36 of them.
    high = torch.zeros(len(exponents), dtype=torch.int64).index_add_(0, place, mantissa >> _LOW_BITS)
    low = torch.zeros(len(exponents), dtype=torch.int64).index_add_(0, place, mantissa & (2**_LOW_BITS - 1))
    total = Fraction(0)
    for power, upper, lower in zip(exponents.tolist(), high.tolist(), low.tolist(), strict=True):
        total += ((upper << _LOW_BITS) + lower) * Fraction(2) ** (power - _MANTISSA_BITS)
    return total
