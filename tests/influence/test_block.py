"""Test blocks that meet training shards: the k best by every method are those of brute force, however work is cut."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from relatif.pipeline.influence.precision import FULL, SCREENING_BFLOAT16, SCREENING_FLOAT32, Precision
from relatif.pipeline.influence.screening import Shortlist, most_promising
from relatif.pipeline.influence.top_k import NO_INDEX, TopK, empty_top_k
from tests.reference import problems, scores
from tests.support.rotated import (
    SCORED_METHODS,
    BruteForce,
    block_of,
    brute_force,
    curvature_in,
    rotated_gradients,
    score_tile,
    shard_of,
)

torch.set_num_threads(1)

PRECISIONS = {"bfloat16": SCREENING_BFLOAT16, "float32": SCREENING_FLOAT32, "full": FULL}

SINGLE = 2.0**-23
"""Relative: scores are float64 values rounded to float32."""

EXACT = 1e-12
"""Of |w_t| |w_n| and its scale: float64 sums over a few hundred parameters."""

CASES = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)
layer_shapes = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 9)), min_size=1, max_size=3).map(tuple)


@dataclass(frozen=True)
class Work:
    """How scoring is cut: shards of training rows in the order in which they come, and rows of a tile.

    After every ``settled`` shards, and at the end, what waits is scored.
    """

    shards: Sequence[slice]
    tile_rows: int
    settled: int = 1

    def tiles(self, count: int) -> Iterable[slice]:
        return [slice(start, min(start + self.tile_rows, count)) for start in range(0, count, self.tile_rows)]


def whole(problem: problems.RotatedProblem) -> Work:
    return Work([slice(0, len(problem.train[0][0]))], len(problem.test[0][0]))


@st.composite
def works(draw: st.DrawFn, train: int, test: int) -> Work:
    cuts = draw(st.lists(st.integers(1, max(1, train - 1)), max_size=5))
    edges = sorted({0, train, *cuts})
    shards = [slice(*edge) for edge in pairwise(edges)]
    return Work(draw(st.permutations(shards)), draw(st.integers(1, test)), draw(st.integers(1, len(shards))))


def features_for(count: int) -> Tensor:
    return torch.zeros(count, 1, dtype=torch.float64)


def top_k(
    problem: problems.RotatedProblem, k: int, precision: Precision, work: Work, *, dense: bool = False
) -> dict[str, TopK]:
    """Score a problem through blocks, shards and tiles."""
    curvature, count = curvature_in(problem), len(problem.test[0][0])
    block = block_of(curvature, rotated_gradients(problem.test, dense=dense), features_for(count), precision)
    shards = [
        shard_of(
            block,
            curvature,
            rotated_gradients(problem.train, rows, dense=dense),
            features_for(rows.stop - rows.start),
            start=rows.start,
        )
        for rows in work.shards
    ]
    running = {method: empty_top_k(count, k) for method in SCORED_METHODS}
    for rows in work.tiles(count):
        for start in range(0, len(shards), work.settled):
            shortlist = Shortlist(block, rows, running)
            for shard in shards[start : start + work.settled]:
                shortlist.look(shard)
            shortlist.settle()
            assert shortlist.pairs == 0
    return running


def assert_equal(found: dict[str, TopK], expected: BruteForce, k: int) -> None:
    """The ranks are those of float64 scores rounded to float32, ties to the smaller index; ranks beyond are empty."""
    for method in SCORED_METHODS:
        rounded = expected.scores[method].astype(np.float32)
        kept = min(k, rounded.shape[1])
        indices, values = scores.top_k(rounded, kept)
        np.testing.assert_array_equal(found[method].indices[:, :kept].numpy(), indices, err_msg=method)
        np.testing.assert_array_equal(found[method].scores[:, :kept].numpy(), values.astype(np.float32))
        assert (found[method].indices[:, kept:] == NO_INDEX).all()
        assert found[method].scores[:, kept:].isneginf().all()


def assert_best(found: dict[str, TopK], expected: BruteForce, k: int, *, tolerance: float = EXACT) -> None:
    """The ranks' scores are right and none better was left out, up to ``tolerance`` |w_t| |w_n| and rounding."""
    for method in SCORED_METHODS:
        exact = expected.scores[method]
        lengths = expected.lengths[method]
        indices, values = found[method].indices.numpy(), found[method].scores.double().numpy()
        assert all(len(set(row)) == k for row in indices.tolist())
        own = np.take_along_axis(exact, indices, axis=1)
        margin = tolerance * np.take_along_axis(lengths, indices, axis=1)
        assert (np.abs(values - own) <= margin + SINGLE * np.abs(own) + 1e-44).all(), method
        best = -np.sort(-exact, axis=1)[:, :k]
        slack = tolerance * lengths.max(axis=1, keepdims=True) + SINGLE * np.abs(best)
        assert (values >= best - slack - 1e-44).all(), method


@CASES
@given(data=st.data(), shapes=layer_shapes, seed=seeds, k=st.integers(1, 12), train=st.integers(1, 30))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_k_best_are_those_of_brute_force(precision, data, shapes, seed, k, train) -> None:
    """On whole numbers, where no arithmetic rounds: with repeated and zero gradients, and many equal scores."""
    problem = problems.rotated(seed, kind="whole", shapes=shapes, test=6, train=train)
    work = data.draw(works(train, 6))

    found = top_k(problem, k, PRECISIONS[precision], work)

    assert_equal(found, brute_force(problem), k)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("kind", problems.KINDS)
def test_none_of_the_best_is_left_out(kind, precision) -> None:
    for seed, shapes in enumerate([((3, 6), (4, 5)), ((5, 20),), ((1, 1),), ((2, 3), (6, 7), (3, 4))]):
        problem = problems.rotated(seed, kind=kind, shapes=shapes, train=90)
        expected = brute_force(problem)
        for settled in (1, 3, 4):
            work = Work([slice(30, 60), slice(0, 7), slice(60, 90), slice(7, 30)], 4, settled)

            assert_best(top_k(problem, 8, PRECISIONS[precision], work), expected, 8)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_none_of_the_best_is_left_out_at_a_real_size(precision) -> None:
    problem = problems.rotated(0, kind="kronecker", shapes=((10, 785),), test=40, train=400)
    work = Work([slice(start, start + 100) for start in (200, 0, 300, 100)], 16, settled=2)

    assert_best(top_k(problem, 20, PRECISIONS[precision], work), brute_force(problem), 20)


@pytest.mark.parametrize("settled", [1, 2])
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_zero_gradients_score_zero_and_ties_go_to_the_smaller_index(precision, order, settled) -> None:
    problem = problems.rotated(7, kind="zeros", shapes=((4, 30),), test=40, train=300)
    expected = brute_force(problem)
    assert (expected.test_norms == 0).any()
    assert (expected.train_norms == 0).any()

    found = top_k(problem, 5, PRECISIONS[precision], Work([slice(100 * i, 100 * i + 100) for i in order], 16, settled))

    still = np.flatnonzero(expected.test_norms == 0)
    for method in SCORED_METHODS:
        np.testing.assert_array_equal(found[method].indices[still].numpy(), np.tile(np.arange(5), (len(still), 1)))
        assert (found[method].scores[still] == 0).all()
    assert_best(found, expected, 5)


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_equal_scores_give_the_first_rows(precision, order) -> None:
    problem = problems.rotated(3, shapes=((3, 8),), test=5, train=60)
    same = [(np.repeat(o[:1], 60, axis=0), np.repeat(i[:1], 60, axis=0)) for o, i in problem.train]
    equal = problems.RotatedProblem(problem.test, same, problem.spectra, problem.damping)

    found = top_k(equal, 7, PRECISIONS[precision], Work([slice(20 * i, 20 * i + 20) for i in order], 2))

    for method in SCORED_METHODS:
        np.testing.assert_array_equal(found[method].indices.numpy(), np.tile(np.arange(7), (5, 1)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_repeated_training_rows_are_ranked_by_index(precision) -> None:
    """In float64 copies of a row score alike only if rounding does not depend on the company they are scored in."""
    problem = problems.rotated(11, kind="duplicates", shapes=((10, 785),), test=12, train=200)
    expected = brute_force(problem)

    found = top_k(problem, 20, PRECISIONS[precision], Work([slice(i, i + 40) for i in range(160, -1, -40)], 5))

    for method in SCORED_METHODS:
        for row, values in zip(found[method].indices.tolist(), found[method].scores.tolist(), strict=True):
            ranked = sorted((-value, index) for value, index in zip(values, row, strict=True))
            assert [index for _, index in ranked] == row
            copies = [problem.train[0][0][index].tobytes() for index in row]
            assert len(set(values)) == len(set(copies))
    assert_best(found, expected, 20)


@settings(max_examples=15, deadline=None)
@given(data=st.data(), seed=seeds, precision=st.sampled_from(sorted(PRECISIONS)))
def test_results_are_bitwise_the_same_for_any_shards_and_tiles(data, seed, precision) -> None:
    problem = problems.rotated(seed, shapes=((5, 33),), test=20, train=70)
    one, other = whole(problem), data.draw(works(70, 20))

    found = [top_k(problem, 9, PRECISIONS[precision], work) for work in (one, other)]

    for method in SCORED_METHODS:
        assert torch.equal(found[0][method].indices, found[1][method].indices)
        assert torch.equal(found[0][method].scores, found[1][method].scores)


@pytest.mark.parametrize("kind", ["whole", "kronecker", "zeros"])
def test_workers_that_share_the_shards_find_together_what_one_finds(kind) -> None:
    """Each has thresholds of its own, and keeps what may be among the best of all."""
    problem = problems.rotated(6, kind=kind, shapes=((4, 33),), test=30, train=200)
    one = top_k(problem, 7, SCREENING_FLOAT32, whole(problem))

    shards = [slice(start, start + 25) for start in range(0, 200, 25)]
    parts = [top_k(problem, 7, SCREENING_FLOAT32, Work(shards[w::3], 8, settled=2)) for w in (2, 0, 1)]

    for method in SCORED_METHODS:
        merged = parts[0][method].merge(parts[1][method]).merge(parts[2][method])
        assert torch.equal(merged.indices, one[method].indices)
        assert torch.equal(merged.scores, one[method].scores)


@pytest.mark.parametrize("kind", ["plain", "kronecker", "heavy tailed", "zeros", "duplicates", "tiny"])
def test_dense_gradients_give_the_same_best(kind) -> None:
    problem = problems.rotated(5, kind=kind, shapes=((4, 12), (3, 5)), train=80)
    work = Work([slice(40, 80), slice(0, 40)], 4)

    found = top_k(problem, 6, SCREENING_FLOAT32, work, dense=True)

    # Dense scores are float32 sums over 63 parameters.
    assert_best(found, brute_force(problem), 6, tolerance=63 * SINGLE)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_rows_below_the_range_of_float32_are_found(precision) -> None:
    """Of a confident prediction, p = 1 - 1e-44, the gradient is like any other once divided by its norm."""
    problem = problems.rotated(2, shapes=((4, 20),), test=6, train=90)
    (outputs, inputs), (test_outputs, test_inputs) = problem.train[0], problem.test[0]
    outputs[80:86], inputs[80:86] = 1e-44 * test_outputs, test_inputs

    found = top_k(problem, 3, PRECISIONS[precision], Work([slice(i, i + 30) for i in (0, 30, 60)], 6))

    # Every test gradient is along one of them, so no cosine is larger.
    np.testing.assert_array_equal(found["l_relatif"].indices[:, 0].numpy(), np.arange(80, 86))
    assert_best(found, brute_force(problem), 3)


def test_the_tile_is_influence_within_the_bound() -> None:
    problem = problems.rotated(0)
    curvature, expected = curvature_in(problem), brute_force(problem)
    block = block_of(curvature, rotated_gradients(problem.test), features_for(9), FULL)
    shard = shard_of(block, curvature, rotated_gradients(problem.train), features_for(40), start=0)
    running = {method: empty_top_k(9, 4) for method in SCORED_METHODS}

    tiles = score_tile(block, shard, slice(3, 9), running)

    assert set(tiles) == {"influence", "gradient"}
    tile = tiles["influence"].double().numpy()

    goal = expected.scores["influence"][3:] / np.outer(expected.test_norms[3:], expected.train_norms)
    assert (
        np.abs(tile - goal) <= shard.numerators["influence"].meeting.error(tiles["influence"]).double().numpy()
    ).all()
    for method in SCORED_METHODS:
        assert running[method].scores[:3].isneginf().all()
        assert running[method].scores[3:].isfinite().all()


def test_most_promising_are_the_highest_of_each_row() -> None:
    rows = torch.tensor([0, 0, 0, 2, 2])
    bounds = torch.tensor([3.0, -1.0, 2.0, -torch.inf, 5.0])

    assert most_promising(bounds, rows, 2).tolist() == [True, False, True, False, True]
    assert most_promising(bounds, rows, 1).tolist() == [True, False, False, False, True]
    assert most_promising(bounds, rows, 9).tolist() == [True, True, True, False, True]
