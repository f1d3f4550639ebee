"""Nearest neighbours: the k nearest are those of brute force, and screening stays within its bound."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.pipeline.influence.neighbours import features, negative_distances, neighbour_error, neighbour_tile
from relatif.pipeline.influence.precision import FULL, SCREENING_BFLOAT16, SCREENING_FLOAT32, Precision
from relatif.pipeline.influence.screening import score_neighbours
from relatif.pipeline.influence.top_k import NO_INDEX, TopK, empty_top_k
from tests.reference import problems, scores
from tests.reference.softmax import Array
from tests.support.rotated import block_of, curvature_in, rotated_gradients, shard_of

torch.set_num_threads(1)

PRECISIONS = {"bfloat16": SCREENING_BFLOAT16, "float32": SCREENING_FLOAT32, "full": FULL}

SINGLE = 2.0**-23
"""Relative: distances are float64 values rounded to float32."""

CASES = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def single(values: Array) -> Array:
    """Return what is left of features in float32, in which they are held."""
    return values.astype(np.float32).astype(np.float64)


def neighbours(test: Array, train: Array, k: int, precision: Precision, shards: Sequence[slice]) -> TopK:
    """Find nearest neighbours through a block, shards in the given order, and tiles of four rows."""
    problem = problems.rotated(0, test=len(test), train=len(train))
    curvature, running = curvature_in(problem), empty_top_k(len(test), k)
    block = block_of(curvature, rotated_gradients(problem.test), torch.from_numpy(test), precision)
    for rows in shards:
        gradients = rotated_gradients(problem.train, rows)
        shard = shard_of(block, curvature, gradients, torch.from_numpy(train[rows]), start=rows.start)
        for start in range(0, len(test), 4):
            score_neighbours(block, shard, slice(start, min(start + 4, len(test))), running)
    return running


@CASES
@given(data=st.data(), seed=seeds, k=st.integers(1, 12), train=st.integers(1, 40), levels=st.sampled_from([2, 4, 256]))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_nearest_neighbours_are_those_of_brute_force(precision, data, seed, k, train, levels) -> None:
    """On images of whole numbers, some of them copies: distances are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, levels, (train + 5, 3, 2)).astype(np.float64)
    images[rng.integers(0, train, 3)] = images[-1]
    edges = sorted({0, train, *data.draw(st.lists(st.integers(1, max(1, train - 1)), max_size=4))})
    shards = data.draw(st.permutations([slice(*edge) for edge in pairwise(edges)]))

    found = neighbours(images[train:], images[:train], k, PRECISIONS[precision], shards)

    kept = min(k, train)
    indices, values = scores.top_k(scores.nearest_neighbour(images[train:], images[:train]).astype(np.float32), kept)
    np.testing.assert_array_equal(found.indices[:, :kept].numpy(), indices)
    np.testing.assert_array_equal(found.scores[:, :kept].numpy(), values.astype(np.float32))
    assert (found.indices[:, kept:] == NO_INDEX).all()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_no_nearer_neighbour_is_left_out(scale, precision) -> None:
    """Far from the origin all squared distances are differences of nearly equal terms."""
    rng = np.random.default_rng(1)
    test, train = (scale * (50 + rng.standard_normal((count, 30))) for count in (12, 200))

    found = neighbours(test, train, 6, PRECISIONS[precision], [slice(100, 200), slice(0, 100)])

    indices, values = scores.top_k(scores.nearest_neighbour(single(test), single(train)), 6)
    np.testing.assert_array_equal(found.indices.numpy(), indices)
    np.testing.assert_allclose(found.scores.numpy(), values, rtol=SINGLE)


def test_identical_points_are_at_distance_zero() -> None:
    points = np.random.default_rng(0).standard_normal((20, 9))

    found = neighbours(points, points, 1, SCREENING_BFLOAT16, [slice(10, 20), slice(0, 10)])

    np.testing.assert_array_equal(found.indices[:, 0].numpy(), np.arange(20))
    assert (found.scores == 0).all()


@CASES
@given(seed=seeds, size=st.integers(1, 40), scale=st.sampled_from([1e-10, 1.0, 1e10]), offset=st.sampled_from([0, 100]))
@pytest.mark.parametrize("precision", PRECISIONS)
def test_screening_stays_within_its_bound(precision, seed, size, scale, offset) -> None:
    rng = np.random.default_rng(seed)
    spread = np.exp(2 * rng.standard_normal((18, size)))
    points = single(scale * spread * (offset + rng.standard_normal((18, size))))
    test, train = (features(torch.from_numpy(part), PRECISIONS[precision]) for part in (points[:6], points[6:]))

    tile = neighbour_tile(test, slice(2, 6), train).double().numpy()

    squares = (points**2).sum(axis=1)
    goal = points[2:6] @ points[6:].T - squares[6:] / 2
    error = neighbour_error(PRECISIONS[precision], size)
    assert (np.abs(tile - goal) <= error * (squares[2:6, None] + squares[6:]) / 2).all()


@pytest.mark.parametrize("size", [1, 9, 100, 784])
def test_rounding_of_a_distance_does_not_depend_on_which_pairs_come_together(size) -> None:
    generator = torch.Generator().manual_seed(size)
    test, train = (features(torch.randn(count, size, generator=generator), SCREENING_FLOAT32) for count in (20, 50))
    pairs = torch.cartesian_prod(torch.arange(20), torch.arange(50)).T.contiguous()
    rows = slice(0, 20)
    whole = negative_distances(test, rows, pairs, train)

    for count in (1, 2, 3, 31, 255, 256, 257, 600):
        some = torch.randperm(pairs.shape[1], generator=generator)[:count]
        assert torch.equal(negative_distances(test, rows, pairs[:, some], train), whole[some])
    expected = scores.nearest_neighbour(test.exact.numpy(), train.exact.numpy())
    np.testing.assert_allclose(whole.reshape(20, 50).numpy(), expected, rtol=1e-14)
    assert negative_distances(test, rows, pairs[:, :0], train).shape == (0,)


def test_features_are_flat_float32_with_float64_squares() -> None:
    inputs = torch.full((2, 3, 4), 0.1, dtype=torch.float64)

    found = features(inputs, SCREENING_BFLOAT16)

    assert found.exact.shape == found.screen.shape == (2, 12)
    assert (found.exact.dtype, found.screen.dtype) == (torch.float32, torch.bfloat16)
    assert found.squares.dtype == torch.float64
    np.testing.assert_allclose(found.squares.numpy(), 12 * float(np.float32(0.1)) ** 2, rtol=1e-15)
