"""Appendix D: of a soft-margin kernel SVM influence and l-RelatIF are closed forms of the kernel.

``1/2 ||w||^2`` has the identity as Hessian and the hinge loss none, so H + lambda I with H = 0 and lambda = 1 is exact.
The SVM is solved from its kernel; the pipeline sees a linear layer on the kernel's explicit features.
"""

import math
from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import influence, norms_of
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.likelihood import differentiated
from relatif.pipeline.influence.precision import SCREENING_BFLOAT16, SCREENING_FLOAT32
from relatif.pipeline.influence.top_k import NO_INDEX, empty_top_k
from tests.reference import svm
from tests.reference.softmax import Array
from tests.support.curvatures import identity_of
from tests.support.rotated import SCORED_METHODS, block_of, score_tile, shard_of

torch.set_num_threads(1)

EXACT = 1e-9
"""Relative to the largest score: what is promised; float64 sums of a few hundred products."""

SINGLE = 2.0**-23
"""Relative: ranked scores are float64 values rounded to float32."""

TRAIN, TEST, DIMENSIONS, BOUND = 80, 40, 3, 0.05


def explicit_features(inputs: Array, degree: int) -> Array:
    """Return psi(x) with ``<psi(a), psi(b)> = (1 + <a, b>)^degree``: the scaled monomials of (1, x)."""
    extended = np.column_stack([np.ones(len(inputs)), inputs])
    columns = []
    for monomial in combinations_with_replacement(range(extended.shape[1]), degree):
        ways = math.factorial(degree) / math.prod(math.factorial(count) for count in Counter(monomial).values())
        columns.append(math.sqrt(ways) * extended[:, monomial].prod(axis=1))
    return np.column_stack(columns)


def hinge(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return ``max(0, 1 - y <w, psi(x)>)`` [N] for labels 0 and 1; on the margin the slope is that of its inside."""
    margins = (2 * labels - 1) * outputs[:, 0]
    return torch.where(margins <= 1 + svm.EDGE, 1 - margins, torch.zeros_like(margins))


@dataclass(frozen=True)
class Problem:
    """A solved SVM: examples with signs, features for the model, the model itself."""

    degree: int
    train: tuple[Array, svm.Signs]
    test: tuple[Array, svm.Signs]
    solution: svm.SvmSolution
    model: nn.Module

    def gradients(self, inputs: Array, signs: svm.Signs) -> dict[str, LayerGradients]:
        forward = forward_pass(self.model, torch.from_numpy(explicit_features(inputs, self.degree)), self.covered)
        gradient = differentiated(hinge, forward.outputs, torch.from_numpy((signs + 1) // 2))
        return forward.gradients(forward.backward(gradient))

    @property
    def covered(self):
        return coverage(self.model)

    @property
    def active_tests(self) -> np.ndarray:
        """Test inputs with a loss: those on the margin, inside it or misclassified."""
        kernel = svm.polynomial_kernel(self.test[0], self.train[0], self.degree)
        return self.test[1] * (kernel @ (self.solution.alphas * self.train[1])) <= 1 + svm.EDGE


def solved(degree: int) -> Problem:
    rng = np.random.default_rng(degree)
    inputs = rng.standard_normal((TRAIN + TEST, DIMENSIONS))
    # A curved boundary with noise: some examples are misclassified, more lie far outside the margin.
    values = inputs[:, 0] + 0.5 * inputs[:, 1] ** 2 - 0.5 + 0.3 * rng.standard_normal(len(inputs))
    signs = np.where(values > 0, 1, -1)
    train, test = (inputs[:TRAIN], signs[:TRAIN]), (inputs[TRAIN:], signs[TRAIN:])
    solution = svm.solve_dual(svm.polynomial_kernel(train[0], train[0], degree), train[1], BOUND)
    features = explicit_features(train[0], degree)
    model = nn.Linear(features.shape[1], 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy((solution.alphas * train[1]) @ features)[None])
    return Problem(degree, train, test, solution, nn.Sequential(model))


def closed_forms(problem: Problem) -> tuple[Array, Array]:
    """Return Appendix D's influence and l-RelatIF [M, N] of the test inputs that have a loss, from the kernel."""
    (train, signs), (test, test_signs) = problem.train, problem.test
    active, support = problem.active_tests, problem.solution.support
    kernel = svm.polynomial_kernel(test[active], train, problem.degree)
    plain = svm.appendix_d_influence(kernel, test_signs[active], signs, support)
    norms = np.array([float(svm.polynomial_kernel(x[None], x[None], problem.degree)[0, 0]) for x in train])
    return plain, svm.appendix_d_relatif(plain, norms)


@pytest.fixture(scope="module", params=[1, 2, 3])
def problem(request: pytest.FixtureRequest) -> Problem:
    return solved(request.param)


def assert_close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, rtol=0, atol=EXACT * np.abs(expected).max())


def test_the_explicit_features_are_the_kernels(problem: Problem) -> None:
    features = explicit_features(problem.train[0], problem.degree)
    assert features.shape[1] < TRAIN
    assert_close(features @ features.T, svm.polynomial_kernel(problem.train[0], problem.train[0], problem.degree))


def test_the_dual_solution_minimizes_the_primal(problem: Problem) -> None:
    """No duality gap, and every kind of example is there: outside, on and inside the margin."""
    (inputs, signs), solution = problem.train, problem.solution
    weights = problem.model[0].weight.detach().numpy()[0]
    margins = signs * (explicit_features(inputs, problem.degree) @ weights)
    primal = weights @ weights / 2 + BOUND * np.maximum(1 - margins, 0).sum()
    dual = solution.alphas.sum() - weights @ weights / 2
    assert primal == pytest.approx(dual, rel=1e-9)
    outside, inside = margins > 1 + svm.EDGE, margins < 1 - svm.EDGE
    assert min(outside.sum(), inside.sum(), (~outside & ~inside).sum()) >= 2
    assert (margins < 0).any()


def test_scores_are_the_closed_forms(problem: Problem) -> None:
    curvature = identity_of(problem.covered.blocks, damping=1.0)
    active = problem.active_tests
    tests = curvature.rotate(problem.gradients(problem.test[0][active], problem.test[1][active]))
    train = curvature.rotate(problem.gradients(*problem.train))

    plain, relative = closed_forms(problem)

    found = influence(curvature, tests, train).numpy()
    assert_close(found, plain)
    support = problem.solution.support
    norms = norms_of(curvature, train).self_influence.sqrt().numpy()
    assert_close(found[:, support] / norms[support], relative[:, support])
    assert_close(norms_of(curvature, train).theta.numpy(), norms)


def test_only_support_vectors_have_influence(problem: Problem) -> None:
    curvature, support = identity_of(problem.covered.blocks, damping=1.0), problem.solution.support
    train = curvature.rotate(problem.gradients(*problem.train))
    tests = curvature.rotate(problem.gradients(*problem.test))

    scores, own = influence(curvature, tests, train).numpy(), norms_of(curvature, train).self_influence.numpy()

    assert (scores[:, ~support] == 0).all()
    np.testing.assert_array_equal(own > 0, support)
    np.testing.assert_array_equal(support, problem.solution.alphas > 0)
    np.testing.assert_array_equal(np.abs(scores).max(axis=1) > 0, problem.active_tests)
    assert 0 < problem.active_tests.sum() < TEST


@pytest.mark.parametrize("precision", [SCREENING_FLOAT32, SCREENING_BFLOAT16])
def test_support_vectors_are_ranked_as_by_the_kernel(problem: Problem, precision) -> None:
    curvature, active = identity_of(problem.covered.blocks, damping=1.0), problem.active_tests
    tests = curvature.rotate(problem.gradients(problem.test[0][active], problem.test[1][active]))
    train = curvature.rotate(problem.gradients(*problem.train))
    inputs, test_inputs = torch.from_numpy(problem.train[0]), torch.from_numpy(problem.test[0][active])
    plain, relative = closed_forms(problem)

    block = block_of(curvature, tests, test_inputs, precision)
    shard = shard_of(block, curvature, train, inputs, start=0)
    running = {method: empty_top_k(len(plain), TRAIN) for method in SCORED_METHODS}
    score_tile(block, shard, slice(0, len(plain)), running)

    for method, expected in (("influence", plain), ("l_relatif", relative), ("theta_relatif", relative)):
        for row, goal in enumerate(expected):
            helpful = int((goal > 0).sum())
            assert helpful > 1
            order = np.argsort(-goal, kind="stable")[:helpful]
            np.testing.assert_array_equal(running[method].indices[row, :helpful].numpy(), order, err_msg=method)
            found = running[method].scores[row, :helpful].double().numpy()
            np.testing.assert_allclose(found, goal[order], rtol=SINGLE)
        assert (running[method].indices != NO_INDEX).all()
    assert not np.array_equal(running["influence"].indices.numpy(), running["l_relatif"].indices.numpy())
