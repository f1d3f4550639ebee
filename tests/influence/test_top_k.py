"""The k best of a stream: merging in any order and any cut gives what sorting everything gives."""

from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor

from relatif.pipeline.influence.top_k import NO_INDEX, TopK, best, empty_top_k, highest, insert_pairs
from tests.reference import scores

torch.set_num_threads(1)

CASES = settings(max_examples=60, deadline=None)
few_values = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])
matrices = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 4), st.integers(1, 12)), elements=few_values | st.floats(-9, 9, width=32)
)
ks = st.integers(1, 6)


def brute_force(matrix: np.ndarray, k: int) -> TopK:
    """Sort everything; empty ranks follow where there are fewer columns than k."""
    kept = min(k, matrix.shape[1])
    indices, values = scores.top_k(matrix, kept)
    whole = empty_top_k(len(matrix), k)
    whole.scores[:, :kept], whole.indices[:, :kept] = torch.from_numpy(values).float(), torch.from_numpy(indices)
    return whole


def insert(top_k: TopK, matrix: np.ndarray, columns: np.ndarray) -> TopK:
    """Insert the columns' pairs into a copy, row by row."""
    held = TopK(top_k.scores.clone(), top_k.indices.clone())
    rows = np.repeat(np.arange(len(matrix)), len(columns))
    indices = np.tile(columns, len(matrix))
    insert_pairs(held, *(torch.from_numpy(v) for v in (rows, matrix[rows, indices], indices)))
    return held


def assert_equal(one: TopK, other: TopK) -> None:
    np.testing.assert_array_equal(one.indices.numpy(), other.indices.numpy())
    np.testing.assert_array_equal(one.scores.numpy(), other.scores.numpy())
    assert one.scores.dtype == torch.float32
    assert one.indices.dtype == torch.int64


def split(columns: int, data: st.DataObject) -> list[np.ndarray]:
    """Deal the columns out into parts at random, in random order."""
    order = np.array(data.draw(st.permutations(range(columns))))
    parts = data.draw(st.lists(st.integers(0, 2), min_size=columns, max_size=columns))
    return [order[np.array(parts) == part] for part in range(3)]


@CASES
@given(matrices, ks, st.data())
def test_inserted_pairs_leave_the_best(matrix, k, data) -> None:
    found = empty_top_k(len(matrix), k)
    for columns in split(matrix.shape[1], data):
        found = insert(found, matrix, columns)

    assert_equal(found, brute_force(matrix, k))


@CASES
@given(matrices, ks, st.data())
def test_merging_is_associative_and_commutative(matrix, k, data) -> None:
    first, second, third = (insert(empty_top_k(len(matrix), k), matrix, part) for part in split(matrix.shape[1], data))
    whole = brute_force(matrix, k)

    assert_equal(first.merge(second).merge(third), whole)
    assert_equal(first.merge(second.merge(third)), whole)
    for order in ([second, first, third], [third, second, first], [third, first, second]):
        assert_equal(reduce(TopK.merge, order), whole)


@CASES
@given(matrices, ks, st.data())
def test_pairs_of_some_rows_alone(matrix, k, data) -> None:
    chosen = torch.tensor(data.draw(st.lists(st.booleans(), min_size=matrix.size, max_size=matrix.size)))
    rows, columns = chosen.reshape(matrix.shape).nonzero().unbind(1)
    found = empty_top_k(len(matrix), k)

    insert_pairs(found, rows, torch.from_numpy(matrix)[rows, columns], columns)

    left_out = np.where(chosen.reshape(matrix.shape).numpy(), matrix, -np.inf)
    for row, values in enumerate(left_out):
        kept = sorted((-value, index) for index, value in enumerate(values) if np.isfinite(value))[:k]
        ranks = [(index, -value) for value, index in kept] + [(NO_INDEX, -np.inf)] * (k - len(kept))
        assert list(zip(found.indices[row].tolist(), found.scores[row].tolist(), strict=True)) == ranks


def test_merging_changes_neither_part() -> None:
    parts = [TopK(torch.tensor([[score]]), torch.tensor([[index]])) for score, index in ((1.0, 4), (2.0, 3))]

    merged = parts[0].merge(parts[1])

    assert (merged.indices.item(), merged.scores.item()) == (3, 2.0)
    assert [part.indices.item() for part in parts] == [4, 3]


def test_an_equal_score_with_a_smaller_index_takes_the_place() -> None:
    held = empty_top_k(1, 2)
    insert_pairs(held, torch.tensor([0, 0]), torch.tensor([1.0, 1.0]), torch.tensor([8, 5]))
    insert_pairs(held, torch.tensor([0, 0]), torch.tensor([1.0, 1.0]), torch.tensor([6, 9]))

    assert held.indices.tolist() == [[5, 6]]


def test_a_negative_score_beats_an_empty_rank() -> None:
    held = empty_top_k(1, 3)
    insert_pairs(held, torch.tensor([0]), torch.tensor([-3e38]), torch.tensor([7]))

    assert held.indices.tolist() == [[7, NO_INDEX, NO_INDEX]]
    assert held.threshold().isneginf().all()


@pytest.mark.parametrize("pairs", [0, 1])
def test_nothing_to_insert_changes_nothing(pairs) -> None:
    held = empty_top_k(2, 1)
    insert_pairs(held, torch.tensor([0, 1]), torch.tensor([5.0, 5.0]), torch.tensor([0, 0]))

    insert_pairs(held, torch.zeros(pairs, dtype=torch.int64), torch.zeros(pairs), torch.full((pairs,), 3))

    assert held.indices.tolist() == [[0], [0]]


def test_rows_are_a_view() -> None:
    held = empty_top_k(4, 2)

    insert_pairs(held.rows(slice(2, 4)), torch.tensor([0, 1]), torch.tensor([5.0, 6.0]), torch.tensor([1, 2]))

    assert held.k == 2
    assert held.indices[:, 0].tolist() == [NO_INDEX, NO_INDEX, 1, 2]
    assert held.threshold().isneginf().all()
    insert_pairs(held.rows(slice(2, 3)), torch.tensor([0]), torch.tensor([4.0]), torch.tensor([9]))
    assert held.threshold().tolist() == [-torch.inf, -torch.inf, 4.0, -torch.inf]


@CASES
@given(matrices, ks, st.randoms(use_true_random=False))
def test_best_sorts_by_score_then_index(matrix, k, random) -> None:
    columns = list(range(0, 10 * matrix.shape[1], 10))
    random.shuffle(columns)
    indices = torch.tensor([columns] * len(matrix))

    values, chosen = best(torch.from_numpy(matrix), indices, k)

    for row in range(len(matrix)):
        expected = sorted((-score, index) for score, index in zip(matrix[row].tolist(), columns, strict=True))[:k]
        assert list(zip(values[row].tolist(), chosen[row].tolist(), strict=True)) == [(-s, i) for s, i in expected]


def infinities(count: int) -> Tensor:
    return torch.full((count,), torch.inf)


def test_scores_beyond_float32_are_ranked_by_index() -> None:
    held = empty_top_k(1, 2)

    insert_pairs(held, torch.zeros(3, dtype=torch.int64), infinities(3), torch.tensor([4, 2, 9]))

    assert held.indices.tolist() == [[2, 4]]


@pytest.mark.parametrize("seed", range(20))
def test_the_highest_values_of_each_row_are_those_of_sorting(seed) -> None:
    """Some ranks empty, some rows without a further value, equal values among them."""
    rng = np.random.default_rng(seed)
    held = -np.sort(-rng.integers(-3, 4, (6, 4)).astype(np.float32), axis=1)
    held[rng.integers(0, 6, 2), -1] = -np.inf
    rows = np.sort(rng.choice([0, 1, 3, 4], 30))
    values = rng.integers(-4, 6, 30).astype(np.float32)

    found = highest(torch.from_numpy(held.copy()), torch.from_numpy(rows), torch.from_numpy(values))

    for row in range(6):
        expected = -np.sort(-np.concatenate([held[row], values[rows == row]]))[:4]
        np.testing.assert_array_equal(found[row].numpy(), expected)
