"""The references against each other, against finite differences and against closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.reference import fisher, mlp, problems, scores, softmax, training
from tests.reference.softmax import Array

torch.set_num_threads(1)

ROUNDING = 1e-10  # relative; float64 with condition numbers of about 1e4
CENTRAL_DIFFERENCE = 1e-7  # absolute; a step of 1e-5 loses about 1e-10 to rounding and 1e-10 to the third derivative
DIFFERENCE_STEP = 1e-5
REWEIGHTING = 1e-5  # relative; central difference in a weight, step 1e-4 of a mean weight of 1/n
SEEDS = (0, 1, 2)


def assert_close(found: NDArray[Any], expected: NDArray[Any], tolerance: float = ROUNDING) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


def softmax_curvatures(problem: problems.SoftmaxProblem) -> dict[str, Array]:
    p = softmax.probabilities(problem.block, problem.train_inputs)
    per_class = softmax.class_gradients(problem.block, problem.train_inputs)
    deltas = softmax.class_output_gradients(p)
    a, b = fisher.kronecker_factors(softmax.with_ones(problem.train_inputs), deltas, p)
    return {
        "exact": fisher.fisher(per_class, p),
        "kfac": fisher.kfac(a, b),
        "ekfac": fisher.ekfac(a, b, per_class, p),
    }


def softmax_gradients(problem: problems.SoftmaxProblem) -> tuple[Array, Array]:
    return (
        softmax.gradients(problem.block, problem.test_inputs, problem.test_labels),
        softmax.gradients(problem.block, problem.train_inputs, problem.train_labels),
    )


def central_difference(function: Callable[[Array], Array], point: Array) -> Array:
    columns = []
    for j in range(point.size):
        shift = np.zeros(point.size)
        shift[j] = DIFFERENCE_STEP
        ahead, behind = function(point + shift.reshape(point.shape)), function(point - shift.reshape(point.shape))
        columns.append((ahead - behind) / (2 * DIFFERENCE_STEP))
    return np.stack(columns, axis=-1)


@pytest.mark.parametrize("seed", SEEDS)
def test_softmax_gradients_are_the_losses_differences(seed: int) -> None:
    problem = problems.random_softmax(seed)
    found = softmax.gradients(problem.block, problem.train_inputs, problem.train_labels)
    expected = central_difference(
        lambda block: softmax.losses(block, problem.train_inputs, problem.train_labels), problem.block
    )
    np.testing.assert_allclose(found, expected, atol=CENTRAL_DIFFERENCE)


def test_softmax_agrees_with_torch() -> None:
    problem = problems.random_softmax(3)
    model = mlp.torch_mlp([(problem.block[:, :-1], problem.block[:, -1])], activation="tanh")
    inputs = torch.from_numpy(problem.train_inputs)
    with torch.no_grad():
        assert_close(softmax.logits(problem.block, problem.train_inputs), model(inputs).numpy())
    (expected,) = mlp.autograd_class_gradients(model, inputs, len(problem.block))
    assert_close(softmax.class_gradients(problem.block, problem.train_inputs), expected)


def test_probabilities_survive_large_logits() -> None:
    block = np.array([[1000.0, 0.0], [0.0, 0.0]])
    np.testing.assert_array_equal(softmax.probabilities(block, [[1.0], [-1.0]]), [[1.0, 0.0], [0.0, 1.0]])
    np.testing.assert_array_equal(softmax.losses(block, [[1.0], [-1.0]], [1, 0]), [1000.0, 1000.0])


@pytest.mark.parametrize("seed", SEEDS)
def test_fisher_of_softmax_regression_is_the_hessian(seed: int) -> None:
    problem = problems.random_softmax(seed)
    found = softmax_curvatures(problem)["exact"]
    assert_close(found, training.hessian(problem.block, problem.train_inputs))
    differences = central_difference(
        lambda block: training.gradient(block, problem.train_inputs, problem.train_labels, weight_decay=0.0),
        problem.block,
    )
    np.testing.assert_allclose(found, differences, atol=CENTRAL_DIFFERENCE)


@pytest.mark.parametrize("method", ["kfac", "ekfac"])
def test_kronecker_curvatures_are_exact_at_zero(method: str) -> None:
    problem = problems.random_softmax(0)
    zero = problems.SoftmaxProblem(
        np.zeros_like(problem.block),
        problem.train_inputs,
        problem.train_labels,
        problem.test_inputs,
        problem.test_labels,
    )
    curvatures = softmax_curvatures(zero)
    assert_close(curvatures[method], curvatures["exact"])


@pytest.mark.parametrize("train", [1, 2, 7, 60])
@pytest.mark.parametrize("seed", SEEDS)
def test_ekfac_is_never_further_from_the_fisher_than_kfac(seed: int, train: int) -> None:
    curvatures = softmax_curvatures(problems.random_softmax(seed, train=train))
    errors = {m: np.linalg.norm(curvatures[m] - curvatures["exact"]) for m in ("kfac", "ekfac")}
    scale = np.linalg.norm(curvatures["exact"])
    if train == 1:
        assert max(errors.values()) <= ROUNDING * scale
    else:
        assert errors["ekfac"] < errors["kfac"] * (1 - 1e-3)
        assert errors["kfac"] > 1e-3 * scale


def test_kfac_is_numpys_kronecker_product_and_keeps_its_eigenbasis() -> None:
    problem = problems.random_softmax(0)
    p = softmax.probabilities(problem.block, problem.train_inputs)
    a, b = fisher.kronecker_factors(softmax.with_ones(problem.train_inputs), softmax.class_output_gradients(p), p)
    basis = fisher.kronecker_eigenbasis(a, b)
    assert_close(fisher.kfac(a, b), np.kron(b, a))
    spectrum = np.array([u * v for u in np.linalg.eigvalsh(b) for v in np.linalg.eigvalsh(a)])
    assert_close(fisher.eigen_form(basis, spectrum), np.kron(b, a))
    assert np.trace(softmax_curvatures(problem)["ekfac"]) == pytest.approx(
        np.trace(softmax_curvatures(problem)["exact"])
    )


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_mlp_by_hand_agrees_with_autograd(activation: str) -> None:
    problem = problems.random_mlp(0, widths=(5, 6, 4, 3), activation=activation)
    passed = mlp.run_mlp(problem.layers, problem.train_inputs, activation=activation)
    model = mlp.torch_mlp(problem.layers, activation=activation)
    inputs = torch.from_numpy(problem.train_inputs)
    by_hand = mlp.mlp_class_gradients(passed)
    by_autograd = mlp.autograd_class_gradients(model, inputs, 3)
    assert [g.shape for g in by_hand] == [(40, 3, 36), (40, 3, 28), (40, 3, 15)]
    for found, expected in zip(by_hand, by_autograd, strict=True):
        assert_close(found, expected)
    with torch.no_grad():
        assert_close(passed.probabilities, torch.softmax(model(inputs), dim=1).numpy())


def test_mlp_of_one_layer_is_softmax_regression() -> None:
    problem = problems.random_softmax(1)
    passed = mlp.run_mlp([(problem.block[:, :-1], problem.block[:, -1])], problem.train_inputs, activation="tanh")
    gradients = mlp.mlp_class_gradients(passed)
    expected = softmax_curvatures(problem)
    assert_close(fisher.fisher(gradients[0], passed.probabilities), expected["exact"])
    assert_close(fisher.kfac_curvature(passed.inputs, passed.class_deltas, passed.probabilities), expected["kfac"])
    found = fisher.ekfac_curvature(passed.inputs, passed.class_deltas, gradients, passed.probabilities)
    assert_close(found, expected["ekfac"])
    own = mlp.label_gradients(gradients, problem.train_labels)
    assert_close(own, softmax.gradients(problem.block, problem.train_inputs, problem.train_labels))


def test_mlp_curvature_is_block_diagonal_and_keeps_the_fishers_trace() -> None:
    problem = problems.random_mlp(0)
    passed = mlp.run_mlp(problem.layers, problem.train_inputs, activation=problem.activation)
    gradients = mlp.mlp_class_gradients(passed)
    dense = fisher.fisher(np.concatenate(gradients, axis=2), passed.probabilities)
    ekfac = fisher.ekfac_curvature(passed.inputs, passed.class_deltas, gradients, passed.probabilities)
    kfac = fisher.kfac_curvature(passed.inputs, passed.class_deltas, passed.probabilities)
    split = gradients[0].shape[2]
    assert np.trace(ekfac) == pytest.approx(np.trace(dense))
    assert not ekfac[:split, split:].any()
    assert not kfac[:split, split:].any()
    assert dense[:split, split:].any()
    assert np.linalg.norm(ekfac - dense) < np.linalg.norm(kfac - dense)


@pytest.mark.parametrize("method", ["exact", "kfac", "ekfac"])
def test_scores_agree_with_whitened_gradients(method: str) -> None:
    problem = problems.trained_softmax(0)
    test, train = softmax_gradients(problem)
    curvature, damping = softmax_curvatures(problem)[method], 1e-2
    inverse = fisher.damped_inverse(curvature, damping)
    spectrum, basis = np.linalg.eigh(curvature)
    scale = (spectrum + damping) ** -0.5
    white_test, white_train = test @ basis * scale, train @ basis * scale
    inner, norm = white_test @ white_train.T, np.linalg.norm(white_train, axis=1)
    assert_close(scores.influence(inverse, test, train), inner)
    assert_close(scores.self_influence(inverse, train), norm**2)
    assert_close(scores.theta_norm(inverse, train), np.linalg.norm(white_train * scale, axis=1))
    assert_close(scores.theta_relatif(inverse, test, train), inner / np.linalg.norm(white_train * scale, axis=1))
    assert_close(scores.l_relatif(inverse, test, train), inner / norm)


@pytest.mark.parametrize("method", ["exact", "kfac", "ekfac"])
def test_l_relatif_ranks_like_the_cosine(method: str) -> None:
    problem = problems.trained_softmax(1)
    test, train = softmax_gradients(problem)
    inverse = fisher.damped_inverse(softmax_curvatures(problem)[method], 1e-2)
    cosine = scores.l_relatif_cosine(inverse, test, train)
    relative = scores.l_relatif(inverse, test, train)
    assert np.abs(cosine).max() <= 1 + ROUNDING
    assert_close(relative, cosine * np.sqrt(scores.self_influence(inverse, test))[:, None])
    np.testing.assert_array_equal(scores.top_k(relative, 20)[0], scores.top_k(cosine, 20)[0])
    assert (scores.top_k(scores.influence(inverse, test, train), 20)[0] != scores.top_k(cosine, 20)[0]).any()


def test_identity_gives_inner_products() -> None:
    test, train = softmax_gradients(problems.random_softmax(0))
    inverse = fisher.damped_inverse(fisher.identity_curvature(test.shape[1]), 1.0)
    norms = np.linalg.norm(train, axis=1)
    assert_close(scores.influence(inverse, test, train), test @ train.T)
    assert_close(scores.theta_relatif(inverse, test, train), test @ train.T / norms)
    assert_close(scores.l_relatif(inverse, test, train), test @ train.T / norms)


def test_influence_is_the_derivative_by_reweighting() -> None:
    """Def. 2.1: with H of the whole objective, I[t, i] = - d loss_t / d w_i at the retrained optimum."""
    decay, step, classes = 1e-2, 1e-4 / 40, 3
    problem = problems.trained_softmax(2, train=40, test=4, features=5, classes=classes, weight_decay=decay)
    test, train = softmax_gradients(problem)
    found = scores.influence(fisher.damped_inverse(softmax_curvatures(problem)["exact"], decay), test, train)
    for i in (0, 7, 39):
        ends = []
        for sign in (1, -1):
            weights = np.full(40, 1 / 40)
            weights[i] += sign * step
            block = training.optimum(
                problem.train_inputs, problem.train_labels, classes, weight_decay=decay, weights=weights
            )
            ends.append(softmax.losses(block, problem.test_inputs, problem.test_labels))
        assert_close(found[:, i], -(ends[0] - ends[1]) / (2 * step), REWEIGHTING)


@pytest.mark.parametrize("decay", [1e-1, 1e-4])
def test_newton_reaches_the_only_optimum(decay: float) -> None:
    problem = problems.random_softmax(0)
    inputs, labels = problem.train_inputs, problem.train_labels
    block = training.optimum(inputs, labels, 4, weight_decay=decay)
    theta = torch.from_numpy(block).requires_grad_()
    ones = torch.from_numpy(softmax.with_ones(inputs))
    loss = torch.nn.functional.cross_entropy(ones @ theta.T, torch.from_numpy(labels)) + decay / 2 * (theta**2).sum()
    (slope,) = torch.autograd.grad(loss, theta)
    assert float(slope.norm()) < 2 * training.GRADIENT_NORM
    assert loss.item() == pytest.approx(training.objective(block, inputs, labels, weight_decay=decay))
    assert np.linalg.eigvalsh(training.hessian(block, inputs, weight_decay=decay)).min() > 0.99 * decay


def test_optimum_needs_weight_decay() -> None:
    with pytest.raises(ValueError, match="weight_decay > 0"):
        training.optimum([[0.0], [1.0]], [0, 1], 2, weight_decay=0.0)


def test_nearest_neighbour_of_images_does_not_wrap_around() -> None:
    problem = problems.images(0)
    assert problem.train_images.dtype == np.uint8
    assert problem.train_images.max() == 255
    found = scores.nearest_neighbour(problem.test_images, problem.train_images)
    test = problem.test_images.reshape(20, -1).astype(np.int64)
    train = problem.train_images.reshape(80, -1).astype(np.int64)
    squared = (test**2).sum(1)[:, None] + (train**2).sum(1)[None] - 2 * test @ train.T
    np.testing.assert_array_equal(np.rint(found**2).astype(np.int64), squared)
    assert (found <= 0).all()


def test_top_k_gives_ties_to_the_smaller_index() -> None:
    indices, values = scores.top_k([[1.0, 3.0, 3.0, -2.0], [0.0, -0.0, -1.0, 0.0]], 3)
    np.testing.assert_array_equal(indices, [[1, 2, 0], [0, 1, 3]])
    np.testing.assert_array_equal(values, [[3.0, 3.0, 1.0], [0.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match="finite"):
        scores.top_k([[1.0, float("nan")]], 1)


def test_statistics_of_a_counted_case() -> None:
    top_a, top_b = [[0, 1, 2], [0, 3, 1]], [[1, 0, 5], [3, 4, 5]]
    assert scores.influence_set(top_a, 1) == {0}
    assert scores.influence_set(top_a, 2) == {0, 1, 3}
    assert scores.cardinality_ratio(top_a, 2) == 0.75
    assert scores.probability_mean_std({0, 2}, [0.25, 9.0, 0.75]) == (0.5, 0.25)
    assert scores.overlap(top_a, top_b, 1) == 0.0
    assert scores.overlap(top_a, top_b, 2) == 0.75


def test_problems_are_repeatable_and_depend_on_the_seed() -> None:
    first, again, other = (problems.trained_softmax(seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first.block, again.block)
    np.testing.assert_array_equal(first.train_inputs, again.train_inputs)
    assert (first.train_inputs != other.train_inputs).any()
    np.testing.assert_array_equal(problems.images(5).train_images, problems.images(5).train_images)
