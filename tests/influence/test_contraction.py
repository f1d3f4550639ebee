"""Blocks of influences: every approximate value lies within its bound, every exact one is the dense inner product."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from relatif.pipeline.curvature.eigen import Curvature, norms_of
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.influence.contraction import contraction
from relatif.pipeline.influence.dense import DenseContraction
from relatif.pipeline.influence.factored import FactoredContraction
from relatif.pipeline.influence.meeting import Contraction, Meeting, whitened_norms
from relatif.pipeline.influence.precision import FULL, SCREENING_BFLOAT16, SCREENING_FLOAT32, Precision
from relatif.schemas.errors import ModelError
from tests.reference.problems import KINDS, RotatedProblem, rotated
from tests.support.rotated import brute_force, curvature_in, rotated_gradients

torch.set_num_threads(1)

PRECISIONS = {"bfloat16": SCREENING_BFLOAT16, "float32": SCREENING_FLOAT32, "full": FULL}

EXACT = 1e-12
"""Of |w_t| |w_n|: float64 sums over at most a few thousand parameters."""

SINGLE = 2.0**-24

CASES = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**32 - 1)
kinds = st.sampled_from(sorted(KINDS))
layer_shapes = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 12)), min_size=1, max_size=3).map(tuple)


def prepared(problem: RotatedProblem, precision: Precision, *, dense: bool = False) -> tuple[Contraction, Meeting]:
    block = contract(curvature_in(problem), rotated_gradients(problem.test, dense=dense), precision)
    return block, meet(block, rotated_gradients(problem.train, dense=dense))


def contract(curvature: Curvature, gradients: dict[str, LayerGradients], precision: Precision) -> Contraction:
    weights = {name: curvature.inverse(name) for name in gradients}
    return contraction(weights, gradients, norms_of(curvature, gradients).self_influence.sqrt(), precision)


def meet(block: Contraction, gradients: dict[str, LayerGradients]) -> Meeting:
    return block.meet(gradients, whitened_norms(block.weights, gradients))


def exact(shard: Meeting, rows: slice, pairs: Tensor) -> Tensor:
    return shard.exact(shard.tile(rows)[pairs[0], pairs[1]], rows, pairs)


def all_pairs(rows: int, columns: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).T.contiguous()


def check_bound(problem: RotatedProblem, precision: Precision, *, dense: bool = False) -> None:
    """Whatever the gradients, a tile is within ``error`` of influence / (|w_t| |w_n|), and zero where a gradient is."""
    expected = brute_force(problem)
    _, shard = prepared(problem, precision, dense=dense)

    rows = slice(0, len(expected.test_norms))
    tile = shard.tile(rows).double().numpy()

    moves = np.outer(expected.test_norms > 0, expected.train_norms > 0)
    lengths = np.where(moves, np.outer(expected.test_norms, expected.train_norms), 1)
    goal = expected.scores["influence"] / lengths
    assert (np.abs(tile - goal) <= shard.error(shard.tile(rows)).double().numpy())[moves].all()
    np.testing.assert_array_equal(tile[~moves], 0)


@pytest.mark.parametrize("precision", PRECISIONS)
@CASES
@given(kind=kinds, shapes=layer_shapes, seed=seeds)
def test_screening_stays_within_its_bound(precision, kind, shapes, seed) -> None:
    check_bound(rotated(seed, kind=kind, shapes=shapes), PRECISIONS[precision])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_screening_of_a_real_size_stays_within_its_bound(precision, kind) -> None:
    check_bound(rotated(1, kind=kind, shapes=((10, 785),), test=16, train=50), PRECISIONS[precision])


@pytest.mark.parametrize("precision", PRECISIONS)
@CASES
@given(kind=kinds, shapes=layer_shapes, seed=seeds)
def test_dense_gradients_stay_within_their_bound(precision, kind, shapes, seed) -> None:
    check_bound(rotated(seed, kind=kind, shapes=shapes), PRECISIONS[precision], dense=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_dense_gradients_of_a_real_size_stay_within_their_bound(precision, kind) -> None:
    check_bound(rotated(1, kind=kind, shapes=((10, 785),), test=16, train=50), PRECISIONS[precision], dense=True)


@pytest.mark.parametrize("layers", [1, 4, 64])
def test_rounding_errors_that_all_point_the_same_way_stay_within_the_bound(layers) -> None:
    """Unit vectors of 1018 equal entries lie 0.3% above a bfloat16 number, and with this damping, which scales test
    inputs, those lie nearly halfway between two, as does the product: everything is rounded towards zero.

    Layers are alike, so that no single one holds more than a part of |w_t|.
    """
    width, halfway = 1018, 1 + 2.0**-8
    factors = [(np.ones((1, 1)), np.ones((1, width)))] * layers
    damping = 1024 / (width * halfway * (1 - 1e-6))
    problem = RotatedProblem(factors, factors, [np.zeros((1, width))] * layers, damping)

    check_bound(problem, SCREENING_BFLOAT16)
    check_bound(problem, SCREENING_BFLOAT16, dense=True)


@pytest.mark.parametrize("layers", [1, 2, 4, 9])
def test_training_gradients_along_the_rounding_errors_of_a_test_gradient_stay_within_the_bound(layers) -> None:
    rng = np.random.default_rng(layers)
    test = [(np.ones((1, 1)), rng.standard_normal((1, 40))) for _ in range(layers)]
    rounded = [torch.from_numpy(inputs).bfloat16().double().numpy() for _, inputs in test]
    train = [(outputs, kept - inputs) for (outputs, inputs), kept in zip(test, rounded, strict=True)]
    problem = RotatedProblem(test, train, [np.zeros((1, 40))] * layers, damping=1.0)

    check_bound(problem, SCREENING_BFLOAT16)
    check_bound(problem, SCREENING_BFLOAT16, dense=True)


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["plain", "kronecker"])
def test_bounds_are_worth_having(kind, dense) -> None:
    """A bound of half of |w_t| |w_n| would screen next to nothing."""
    problem = rotated(2, kind=kind, shapes=((10, 60),))
    errors = {}
    for name, precision in PRECISIONS.items():
        _, shard = prepared(problem, precision, dense=dense)
        errors[name] = float(shard.error(shard.tile(slice(0, 9))).max())

    if dense:
        # Of rows there is no low-rank form, so that "full" is float32 and nothing more.
        assert errors["full"] == errors["float32"] < (600 + 16) * SINGLE
        assert errors["bfloat16"] < 0.01
        return
    assert errors["full"] < 100 * (10 + 60) * SINGLE
    # Where bfloat16 is not worth its wider bound, float32 takes its place.
    assert errors["full"] < errors["float32"] <= errors["bfloat16"] < 0.2


@pytest.mark.parametrize("dense", [False, True])
@CASES
@given(kind=kinds, shapes=layer_shapes, seed=seeds, precision=st.sampled_from(sorted(PRECISIONS)))
def test_exact_values_are_the_dense_inner_products(dense, kind, shapes, seed, precision) -> None:
    problem = rotated(seed, kind=kind, shapes=shapes)
    expected = brute_force(problem)
    _, shard = prepared(problem, PRECISIONS[precision], dense=dense)
    count, width = expected.scores["influence"].shape
    rows = slice(2, count)

    values = exact(shard, rows, all_pairs(count - 2, width))

    assert values.dtype == torch.float64
    goal = expected.scores["influence"][rows]
    allowed = EXACT * expected.test_norms[rows, None] * expected.train_norms + 1e-300
    assert (np.abs(values.reshape(goal.shape).numpy() - goal) <= allowed).all()


@pytest.mark.parametrize(
    "shapes", [((10, 785),), ((3, 50), (10, 17)), ((1, 9),), ((5, 33),), ((17, 65),), ((100, 21),)]
)
@pytest.mark.parametrize("dense", [False, True])
def test_rounding_does_not_depend_on_which_pairs_come_together(dense, shapes) -> None:
    """Else a result would depend on how many other candidates a unit, a retry or a worker had seen before."""
    problem = rotated(3, shapes=shapes, test=40, train=60)
    _, shard = prepared(problem, SCREENING_FLOAT32, dense=dense)
    generator = torch.Generator().manual_seed(0)
    pairs = all_pairs(40, 60)
    whole = exact(shard, slice(0, 40), pairs)

    for count in (1, 2, 3, 7, 31, 255, 256, 257, 600, *torch.randint(1, 900, (20,), generator=generator).tolist()):
        some = torch.randperm(pairs.shape[1], generator=generator)[:count]
        assert torch.equal(exact(shard, slice(0, 40), pairs[:, some]), whole[some])
    lower = slice(25, 40)
    below = pairs[0] >= 25
    shifted = pairs[:, below] - torch.tensor([[25], [0]])
    assert torch.equal(exact(shard, lower, shifted), whole[below])


@pytest.mark.parametrize("dense", [False, True])
def test_rounding_does_not_depend_on_the_shard(dense) -> None:
    problem = rotated(4, shapes=((10, 785),), test=10, train=40)
    block, shard = prepared(problem, SCREENING_FLOAT32, dense=dense)
    rows = slice(0, 10)
    whole = exact(shard, rows, all_pairs(10, 40)).reshape(10, 40)

    for columns in (slice(0, 1), slice(3, 20), slice(39, 40)):
        part = meet(block, rotated_gradients(problem.train, columns, dense=dense))
        width = len(range(40)[columns])
        found = exact(part, rows, all_pairs(10, width))
        assert torch.equal(found.reshape(10, width), whole[:, columns])


@pytest.mark.parametrize("kind", ["plain", "kronecker", "heavy tailed", "cancelling", "zeros", "tiny"])
def test_closer_values_stay_within_their_bound(kind, monkeypatch) -> None:
    """Forms of any error up to a half are taken, so that the bound is put to the test."""
    monkeypatch.setattr("relatif.pipeline.influence.pair_sums.WORTHWHILE_SAVING", 0.1)
    monkeypatch.setattr("relatif.pipeline.influence.pair_sums.NEAR_ERROR", 0.5)
    problem = rotated(5, kind=kind, shapes=((9, 30), (12, 20)))
    expected = brute_force(problem)
    _, shard = prepared(problem, SCREENING_BFLOAT16)
    rows, pairs = slice(2, 9), all_pairs(7, 40)

    found = shard.closer(rows, pairs)

    assert found is not None
    cosines, error = found[0].reshape(7, 40).numpy(), found[1]
    lengths = np.outer(expected.test_norms[rows], expected.train_norms)
    goal = np.where(lengths > 0, expected.scores["influence"][rows] / np.where(lengths > 0, lengths, 1), 0)
    assert (np.abs(cosines - goal) <= error + 1e-12).all()
    assert 1e-6 < error < 0.6


def test_dense_rows_have_nothing_closer_than_exact() -> None:
    _, shard = prepared(rotated(0), SCREENING_BFLOAT16, dense=True)

    assert shard.closer(slice(0, 9), all_pairs(9, 40)) is None


@pytest.mark.parametrize("dense", [False, True])
def test_no_pairs_give_no_values(dense) -> None:
    problem = rotated(0)
    _, shard = prepared(problem, SCREENING_FLOAT32, dense=dense)
    rows = slice(0, 9)

    found = exact(shard, rows, torch.zeros(2, 0, dtype=torch.int64))

    assert found.shape == (0,)
    assert found.dtype == torch.float64


def test_the_form_follows_the_gradients() -> None:
    problem = rotated(0)
    curvature = curvature_in(problem)
    factored, dense = (rotated_gradients(problem.test, dense=dense) for dense in (False, True))
    mixed = {"0": factored["0"], "1": dense["1"]}

    forms = [type(contract(curvature, part, FULL)) for part in (factored, dense, mixed)]

    assert forms == [FactoredContraction, DenseContraction, DenseContraction]


def test_tiles_of_mixed_and_dense_gradients_are_the_same() -> None:
    problem = rotated(0)
    curvature = curvature_in(problem)
    found = []
    for chosen in (("0",), ("0", "1")):
        parts = []
        for part in (problem.test, problem.train):
            factored, dense = rotated_gradients(part), rotated_gradients(part, dense=True)
            parts.append({name: dense[name] if name in chosen else factored[name] for name in factored})
        block = contract(curvature, parts[0], FULL)
        found.append(meet(block, parts[1]).tile(slice(0, 9)))

    assert torch.equal(*found)


def test_gradients_of_other_blocks_are_refused_with_both_shapes() -> None:
    problem = rotated(0)
    curvature, gradients = curvature_in(problem), rotated_gradients(problem.test)

    with pytest.raises(ModelError, match=r"^expected gradients of the blocks .*, found .*; give a curvature"):
        contraction({"0": curvature.inverse("0")}, gradients, torch.ones(9, dtype=torch.float64), FULL)


def test_a_block_of_factors_refuses_a_shard_of_dense_gradients() -> None:
    problem = rotated(0)
    block = contract(curvature_in(problem), rotated_gradients(problem.test), FULL)

    with pytest.raises(ModelError, match=r"^expected rank-one gradients in every layer.*found others in \['0', '1'\]"):
        meet(block, rotated_gradients(problem.train, dense=True))
