"""Low-rank forms of inverse spectra: the bounds they carry are true, and the tolerance is met."""

from fractions import Fraction
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.pipeline.influence.low_rank import LowRank, low_rank_forms
from tests.reference.softmax import Array

torch.set_num_threads(1)

ROUNDING = 1e-9
"""Relative, of bounds that are differences of float64 numbers: what another order of summation may change."""

ACCURATE = 1e-9
"""Relative error of a full-rank form of a Kronecker spectrum: float64 rounding with some digits lost to scaling."""

CASES = settings(max_examples=40, deadline=None)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 9))
seeds = st.integers(0, 2**32 - 1)
dampings = st.sampled_from([1e-6, 1e-3, 1.0])


def kronecker_inverse(shape: tuple[int, int], seed: int, damping: float) -> Array:
    """Return 1 / (s + lambda) for eigenvalues over six orders on either side."""
    rng = np.random.default_rng(seed)
    outputs, inputs = (np.sort(10 ** rng.uniform(-6, 0, size)) for size in shape)
    return np.asarray(1 / (np.outer(outputs, inputs) + damping))


def any_inverse(shape: tuple[int, int], seed: int) -> Array:
    """Return what no Kronecker product gives: entries of any size over eight orders."""
    return np.asarray(10 ** np.random.default_rng(seed).uniform(-4, 4, shape))


def low_rank(matrix: torch.Tensor, rank: int) -> LowRank:
    return next(islice(low_rank_forms(matrix), rank - 1, None))


def smallest(matrix: torch.Tensor, tolerance: float) -> LowRank:
    return next(form for form in low_rank_forms(matrix) if form.error <= tolerance)


def recomputed(form: LowRank, matrix: Array) -> tuple[float, float]:
    """Return error and amplification in exact arithmetic."""
    left, right = (factors.tolist() for factors in (form.output_factors, form.input_factors))
    error, amplification = Fraction(0), Fraction(0)
    for o, row in enumerate(matrix.tolist()):
        for i, value in enumerate(row):
            terms = [Fraction(u[o]) * Fraction(v[i]) for u, v in zip(left, right, strict=True)]
            error = max(error, abs(sum(terms) / Fraction(value) - 1))
            amplification = max(amplification, sum(map(abs, terms)) / Fraction(value))
    return float(error), float(amplification)


@CASES
@given(shape=shapes, seed=seeds, damping=dampings, rank=st.integers(1, 6))
def test_bounds_are_true(shape, seed, damping, rank) -> None:
    for matrix in (kronecker_inverse(shape, seed, damping), any_inverse(shape, seed)):
        form = low_rank(torch.from_numpy(matrix), min(rank, *shape))

        assert form.output_factors.shape == (min(rank, *shape), shape[0])
        assert form.input_factors.shape == (min(rank, *shape), shape[1])
        error, amplification = recomputed(form, matrix)
        assert error <= form.error * (1 + ROUNDING) + ROUNDING * form.amplification
        assert amplification <= form.amplification * (1 + ROUNDING)


@CASES
@given(shape=shapes, seed=seeds, damping=dampings)
def test_forms_come_by_rising_rank_up_to_the_matrix(shape, seed, damping) -> None:
    matrix = torch.from_numpy(kronecker_inverse(shape, seed, damping))

    forms = list(low_rank_forms(matrix))

    assert [form.rank for form in forms] == list(range(1, min(shape) + 1))
    assert [len(form.output_factors) for form in forms] == [len(form.input_factors) for form in forms]
    # A form is the one before it and one term more, so that one decomposition serves all.
    for one, other in pairwise(forms):
        assert torch.equal(one.output_factors, other.output_factors[:-1])


@CASES
@given(shape=shapes, seed=seeds, damping=dampings)
def test_full_rank_is_accurate(shape, seed, damping) -> None:
    matrix = torch.from_numpy(kronecker_inverse(shape, seed, damping))

    assert low_rank(matrix, min(shape)).error <= ACCURATE


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1)])
def test_a_single_row_or_column_has_rank_one(shape) -> None:
    form = smallest(torch.from_numpy(any_inverse(shape, 0)), 1e-12)

    assert len(form.output_factors) == 1
    assert form.amplification == pytest.approx(1)


def test_the_identity_has_rank_one() -> None:
    """With H = 0 every entry of 1 / (s + lambda) is the same."""
    form = smallest(torch.full((10, 785), 4.0, dtype=torch.float64), 1e-12)

    assert len(form.output_factors) == 1
    assert form.amplification == pytest.approx(1)


def test_a_smooth_spectrum_needs_a_small_rank() -> None:
    """That is what makes a tile cheap: a few products instead of one per output."""
    outputs, inputs = torch.logspace(-2, 0, 10).double(), torch.logspace(-4, 1, 785).double()
    matrix = 1 / (torch.outer(outputs, inputs) + 1e-3)

    ranks = [len(smallest(matrix, tolerance).output_factors) for tolerance in (0.5, 2e-2, 1e-4)]

    assert ranks == sorted(ranks)
    assert ranks[0] < ranks[2]
    assert ranks[1] <= 5


def test_single_precision_is_refined_in_float64() -> None:
    matrix = torch.from_numpy(kronecker_inverse((4, 6), 0, 1e-3)).float()

    form = low_rank(matrix, 4)

    assert form.output_factors.dtype == torch.float64
    assert recomputed(form, matrix.double().numpy())[0] <= ACCURATE
