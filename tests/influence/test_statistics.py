"""Statistics of explanations against Python's own sets and exact arithmetic."""

import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from relatif.pipeline.influence.statistics import SetMoments, influence_set, overlap_counts, set_moments
from relatif.schemas.errors import ConfigurationError, DataError

TRAIN_COUNT = 12
RANKS = 4
ROUNDING = 4e-16
"""Relative: both sides round an exact sum, at most twice."""

top_ks = hnp.arrays(
    np.int64,
    st.tuples(st.integers(1, 9), st.just(RANKS)),
    elements=st.integers(0, TRAIN_COUNT - 1),
)
ks = st.integers(1, RANKS)
probabilities = st.lists(st.floats(0, 1, width=32), min_size=1, max_size=40)


def pieces(values, cuts):
    """Split along the first axis at the cuts; some pieces may be empty."""
    return np.split(values, sorted(cut % (len(values) + 1) for cut in cuts))


@given(top_ks, ks)
def test_influence_set_is_the_python_set_of_the_first_ranks(top_k, k):
    found = influence_set(torch.tensor(top_k), k=k, train_count=TRAIN_COUNT)

    assert set(found.members.nonzero().flatten().tolist()) == {int(i) for row in top_k for i in row[:k]}
    assert (found.k, found.test_count, found.members.dtype) == (k, len(top_k), torch.bool)


@given(top_ks, ks, st.lists(st.integers(0, 9), max_size=3))
def test_influence_set_does_not_depend_on_the_split_of_the_test_inputs(top_k, k, cuts):
    whole = influence_set(torch.tensor(top_k), k=k, train_count=TRAIN_COUNT)
    first, *others = [influence_set(torch.tensor(piece), k=k, train_count=TRAIN_COUNT) for piece in pieces(top_k, cuts)]
    merged = first
    for other in others:
        merged = merged.merge(other)

    assert torch.equal(merged.members, whole.members)
    assert (merged.k, merged.test_count) == (whole.k, whole.test_count)


@given(probabilities, st.randoms(use_true_random=False))
def test_moments_agree_with_exact_arithmetic(values, random):
    members = [random.random() < 0.7 for _ in values]
    members[0] = True
    chosen = [value for value, member in zip(values, members, strict=True) if member]

    summary = set_moments(torch.tensor(members), torch.tensor(values, dtype=torch.float32)).summary()

    assert summary.cardinality == len(chosen)
    assert summary.mean == pytest.approx(statistics.mean(chosen), rel=ROUNDING, abs=0)
    assert summary.std == pytest.approx(statistics.pstdev(chosen), rel=ROUNDING, abs=0)


def test_moments_of_many_rows_agree_with_numpy():
    values = np.random.default_rng(3).random(200_000, dtype=np.float32) ** 9
    members = np.random.default_rng(4).random(200_000) < 0.4

    summary = set_moments(torch.tensor(members), torch.tensor(values)).summary()

    # numpy adds in float64 with rounding: pairwise over 80,000 rows it keeps more than 12 digits.
    assert summary.mean == pytest.approx(values[members].astype(np.float64).mean(), rel=1e-12)
    assert summary.std == pytest.approx(values[members].astype(np.float64).std(), rel=1e-12)


@given(probabilities, st.lists(st.integers(0, 40), max_size=4), st.randoms(use_true_random=False))
def test_moments_depend_neither_on_the_split_nor_on_the_order_of_the_rows(values, cuts, random):
    whole = set_moments(torch.ones(len(values), dtype=torch.bool), torch.tensor(values))
    random.shuffle(values)
    merged = SetMoments(0, whole.total * 0, whole.squares * 0)
    for piece in pieces(np.array(values, np.float32), cuts):
        merged = set_moments(torch.ones(len(piece), dtype=torch.bool), torch.tensor(piece)).merge(merged)

    assert merged == whole
    assert merged.summary() == whole.summary()


@given(st.integers(0, 2**32), st.integers(1, 9), ks)
def test_overlap_counts_the_common_members_of_python_sets(seed, tests, k):
    random = np.random.default_rng(seed)
    a, b = random.integers(0, TRAIN_COUNT, (2, tests, RANKS))  # a row may hold an index twice
    expected = sum(len(set(mine[:k]) & set(theirs[:k])) for mine, theirs in zip(a.tolist(), b.tolist(), strict=True))

    assert overlap_counts(torch.tensor(a), torch.tensor(b), k=k) == expected
    assert overlap_counts(torch.tensor(b), torch.tensor(a), k=k) == expected


def test_overlap_of_a_method_with_itself_is_complete():
    top_k = torch.stack([torch.randperm(TRAIN_COUNT)[:RANKS] for _ in range(7)])

    assert overlap_counts(top_k, top_k.flip(1), k=RANKS) == 7 * RANKS


@pytest.mark.parametrize("k", [0, -1, RANKS + 1])
def test_k_beyond_the_ranks_is_refused(k):
    top_k = torch.zeros(3, RANKS, dtype=torch.int64)

    with pytest.raises(ConfigurationError, match=f"between 1 and {RANKS}.*found {k}"):
        influence_set(top_k, k=k, train_count=TRAIN_COUNT)
    with pytest.raises(ConfigurationError, match=f"between 1 and {RANKS}.*found {k}"):
        overlap_counts(top_k, top_k, k=k)


@pytest.mark.parametrize("index", [-1, TRAIN_COUNT])
def test_an_index_outside_the_training_set_is_refused(index):
    with pytest.raises(DataError, match=f"between 0 and {TRAIN_COUNT - 1} in top_k, found {index};"):
        influence_set(torch.tensor([[0, index]]), k=2, train_count=TRAIN_COUNT)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.5])
def test_what_is_no_probability_is_refused(value):
    members = torch.tensor([True, True])

    with pytest.raises(DataError, match="probabilities between 0 and 1, found"):
        set_moments(members, torch.tensor([0.5, value]))
    assert set_moments(torch.tensor([True, False]), torch.tensor([0.5, value])).size == 1


def test_an_empty_set_has_no_mean():
    with pytest.raises(DataError, match="at least one training example"):
        set_moments(torch.tensor([False]), torch.tensor([0.5])).summary()
