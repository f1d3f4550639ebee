"""Explanations of small models through blocks and shards, against explicit float64 inverses."""

from itertools import combinations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.eigen import Curvature
from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.influence.precision import FULL, SCREENING_BFLOAT16, SCREENING_FLOAT32, Precision
from relatif.pipeline.influence.top_k import TopK, empty_top_k
from tests.reference import mlp, scores
from tests.support.curvatures import CURVATURES, curvature_of, dense_curvature, gradients_of
from tests.support.explained import MODELS, Explained, explained
from tests.support.rotated import SCORED_METHODS, block_of, score_tile, shard_of

torch.set_num_threads(1)

PRECISIONS = {"bfloat16": SCREENING_BFLOAT16, "float32": SCREENING_FLOAT32, "full": FULL}

AGREEMENT = 1e-5
"""Relative: what is promised of scores."""

RANKS = 6


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("method", CURVATURES)
@pytest.mark.parametrize("model", MODELS)
def test_the_best_of_a_model_are_those_of_the_explicit_inverse(model, method, damping, precision) -> None:
    case = explained(model)
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, damping)
    expected = case.scores(case.inverse(method, curvature))

    found = best_of_model(case, curvature, PRECISIONS[precision])

    for name in SCORED_METHODS:
        indices, values = scores.top_k(expected[name], RANKS)
        np.testing.assert_array_equal(found[name].indices.numpy(), indices, err_msg=name)
        np.testing.assert_allclose(found[name].scores.numpy(), values, rtol=AGREEMENT, err_msg=name)


@pytest.mark.parametrize("method", CURVATURES)
@pytest.mark.parametrize("model", MODELS)
def test_no_method_falls_back_to_another(model, method) -> None:
    """The identity's two denominators are the same (damping 1), and the gradient cosine ranks as they do."""
    case = explained(model)
    damping = 1.0 if method == "identity" else 1e-2
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, damping)

    found = best_of_model(case, curvature, SCREENING_FLOAT32)

    for one, other in combinations(SCORED_METHODS, 2):
        alike = method == "identity" and {one, other} <= {"theta_relatif", "l_relatif", "gradient_cosine"}
        equal = alike and "gradient_cosine" not in (one, other)
        assert torch.equal(found[one].indices, found[other].indices) is alike
        assert torch.allclose(found[one].scores, found[other].scores, rtol=1e-6, atol=0) is equal


def best_of_model(case: Explained, curvature: Curvature, precision: Precision) -> dict[str, TopK]:
    """Score a model's examples in two shards."""
    tests, train = (torch.from_numpy(inputs) for inputs in (case.problem.test_inputs, case.problem.train_inputs))
    block = block_of(curvature, case.rotated(curvature, "test"), tests, precision)
    running = {method: empty_top_k(len(tests), RANKS) for method in SCORED_METHODS}
    gradients = case.rotated(curvature, "train")
    for rows in (slice(0, 25), slice(25, len(train))):
        part = {name: some(gradient, rows) for name, gradient in gradients.items()}
        shard = shard_of(block, curvature, part, train[rows], start=rows.start)
        score_tile(block, shard, slice(0, len(tests)), running)
    return running


def some(gradients: LayerGradients, rows: slice) -> LayerGradients:
    if isinstance(gradients, FactoredGradients):
        return FactoredGradients(gradients.outputs[rows], gradients.inputs[rows])
    return DenseGradients(gradients.dense()[rows])


class Pooled(nn.Module):
    """A layer at every position, whose activations are summed for another one at a single position."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.second(self.first(inputs).tanh().sum(dim=1))


@pytest.mark.parametrize("method", CURVATURES)
def test_the_best_of_a_model_with_positions(method) -> None:
    rng = np.random.default_rng(0)
    inputs, labels = rng.standard_normal((50, 3, 4)), rng.integers(0, 3, 50)
    torch.manual_seed(0)
    model = Pooled().double()
    curvature = curvature_of(method, model, inputs[10:], 3, 1e-2)
    every = np.concatenate(mlp.autograd_class_gradients(model, torch.from_numpy(inputs), 3), axis=2)
    own = np.array([gradients[label] for gradients, label in zip(every, labels, strict=True)])
    inverse = np.linalg.inv(dense_curvature(curvature))
    rotated = [curvature.rotate(gradients_of(model, inputs[rows], labels[rows])) for rows in (slice(10), slice(10, 50))]

    block = block_of(curvature, rotated[0], torch.from_numpy(inputs[:10]), SCREENING_FLOAT32)
    running = {name: empty_top_k(10, RANKS) for name in SCORED_METHODS}
    shard = shard_of(block, curvature, rotated[1], torch.from_numpy(inputs[10:]), start=0)
    score_tile(block, shard, slice(0, 10), running)

    references = {"influence": scores.influence, "theta_relatif": scores.theta_relatif, "l_relatif": scores.l_relatif}
    for name, reference in references.items():
        indices, values = scores.top_k(reference(inverse, own[:10], own[10:]), RANKS)
        np.testing.assert_array_equal(running[name].indices.numpy(), indices)
        np.testing.assert_allclose(running[name].scores.numpy(), values, rtol=AGREEMENT)
