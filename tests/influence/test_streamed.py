"""Gradients that are formed part by part, in each form and of both kinds together, against brute force."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.pipeline.curvature.eigen import norms_of
from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.curvature.positions import PositionGradients
from relatif.pipeline.curvature.sides import OneHot
from relatif.pipeline.curvature.sparse import sparse_gradients
from relatif.pipeline.influence import streamed
from relatif.pipeline.influence.contraction import contraction, solved_contraction
from relatif.pipeline.influence.meeting import whitened_norms
from relatif.pipeline.influence.precision import FULL, SCREENING_FLOAT32
from relatif.pipeline.influence.streamed import StreamedContraction, streamed_contraction
from tests.reference.problems import KINDS, rotated
from tests.support.rotated import brute_force, curvature_in, rotated_gradients

torch.set_num_threads(1)

CASES = settings(max_examples=25, deadline=None)
ROUNDED = 2.0**-20
"""Of |w_t| |w_n|: what float32 does to the entries of gradients and to a tile."""


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relatif.pipeline.curvature.forms.PART_ENTRIES", 100)
    monkeypatch.setattr("relatif.pipeline.curvature.sparse.PART_ENTRIES", 100)
    monkeypatch.setattr(streamed, "PART_ROWS", 1)
    monkeypatch.setattr(streamed, "PART_ENTRIES", 100)


def at_two_positions(gradients: dict[str, LayerGradients], dtype: torch.dtype) -> dict[str, LayerGradients]:
    """Return the same gradients as sums over two positions, the first layer's excepted: it is one outer product."""
    found: dict[str, LayerGradients] = {}
    for name, gradient in gradients.items():
        assert isinstance(gradient, FactoredGradients)
        outputs, inputs = gradient.outputs.to(dtype), gradient.inputs.to(dtype)
        pair = torch.stack([0.25 * outputs, 0.75 * outputs], dim=1), torch.stack([inputs, inputs], dim=1)
        found[name] = PositionGradients((pair,)) if found else FactoredGradients(outputs, inputs)
    return found


@CASES
@given(
    kind=st.sampled_from(sorted(set(KINDS) - {"tiny"})),
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from([torch.float64, torch.float32]),
)
def test_tiles_and_exact_values_are_those_of_brute_force(kind: str, seed: int, dtype: torch.dtype) -> None:
    problem = rotated(seed, kind=kind, shapes=((3, 5), (4, 7), (2, 30)))
    expected, curvature = brute_force(problem), curvature_in(problem)
    queries, training = (at_two_positions(rotated_gradients(part), dtype) for part in (problem.test, problem.train))
    weights = {name: curvature.inverse(name) for name in queries}

    block = contraction(weights, queries, norms_of(curvature, queries).self_influence.sqrt(), SCREENING_FLOAT32)
    shard = block.meet(training, whitened_norms(block.weights, training))

    assert isinstance(block, StreamedContraction)
    rows = slice(1, None)
    tile = shard.tile(rows)
    pairs = torch.cartesian_prod(*map(torch.arange, tile.shape)).T
    lengths = np.outer(expected.test_norms, expected.train_norms)[rows]
    goal = expected.scores["influence"][rows]
    allowed = block.error if dtype == torch.float64 else ROUNDED
    assert allowed < 1e-5
    assert (np.abs(tile.numpy() * lengths - goal) <= allowed * lengths).all()
    assert (
        np.abs(shard.exact(tile[pairs[0], pairs[1]], rows, pairs).reshape(goal.shape).numpy() - goal)
        <= allowed * lengths
    ).all()
    assert (tile.numpy()[lengths == 0] == 0).all()


def words(seed: int, count: int) -> tuple[LayerGradients, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(count, 4, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(0, 50, (count, 4), generator=generator)
    found = sparse_gradients(outputs, OneHot(ids, 50, torch.ones(count, 4, dtype=torch.float64)))
    return found, found.dense()


def test_embeddings_meet_in_the_words_of_the_queries() -> None:
    (queries, test), (training, train) = words(0, 6), words(1, 9)
    weights = {"words": torch.rand(3, 50, dtype=torch.float64) + 0.1}
    norms = queries.weighted_norms(weights["words"])[0].sqrt()

    block = contraction(weights, {"words": queries}, norms, SCREENING_FLOAT32)
    shard = block.meet({"words": training}, whitened_norms(block.weights, {"words": training}))

    expected = torch.einsum("moi,oi,noi->mn", test, weights["words"], train)
    lengths = torch.outer(norms, training.weighted_norms(weights["words"])[0].sqrt())
    assert float((shard.tile(slice(None)) * lengths - expected).abs().max()) < ROUNDED * float(lengths.max())


def test_many_parameters_are_never_laid_out_as_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relatif.pipeline.influence.contraction.DENSE_PARAMETERS", 20)
    values, train = (torch.randn(n, 3, 7, dtype=torch.float64) for n in (4, 5))
    norms = values.flatten(1).norm(dim=1)

    block = solved_contraction({"layer": values}, norms, FULL)
    training = {"layer": DenseGradients(train)}
    shard = block.meet(training, whitened_norms(block.weights, training))

    assert isinstance(block, StreamedContraction)
    lengths = torch.outer(norms, train.flatten(1).norm(dim=1))
    expected = values.flatten(1) @ train.flatten(1).T
    assert float((shard.tile(slice(None)) * lengths - expected).abs().max()) < ROUNDED * float(lengths.max())


def test_the_bound_grows_with_the_terms_of_a_part() -> None:
    gradients = {"layer": DenseGradients(torch.ones(2, 3, 10**6 // 3, dtype=torch.float32))}
    weights = {"layer": torch.ones(3, 10**6 // 3)}

    found = streamed_contraction(gradients, weights, torch.ones(2, dtype=torch.float64))

    assert 10**6 / 3 * 2.0**-24 < found.error < 0.1
