"""Scores from curvatures in eigen form against explicit float64 inverses."""

from itertools import combinations

import numpy as np
import pytest
import torch

from relatif.pipeline.curvature.eigen import (
    Curvature,
    LayerCurvature,
    check_positive,
    influence,
    norms_of,
)
from relatif.schemas.errors import NumericalError
from tests.reference import scores
from tests.reference.softmax import Array
from tests.support.curvatures import CURVATURES, curvature_of, dense_curvature, gradients_of, joined
from tests.support.explained import MODELS, Explained, explained

torch.set_num_threads(1)

TOLERANCE = 1e-8
"""Relative to the largest entry: float64 with condition numbers up to 1e5."""

AGREEMENT = 1e-5
"""Relative, entry by entry: what is promised of scores."""

CANCELLATION = 1e-9
"""Scores below this share of |w_t| |w_n| are differences of nearly equal terms, whose relative error says little."""

SCORES = ("influence", "theta_relatif", "l_relatif")
"""The methods whose scores are influence divided by a number of the training example."""

DAMPINGS = (1e-4, 1e-3, 1e-1, 1.0)


def product(case: Explained, method: str, damping: float) -> tuple[Curvature, dict[str, Array]]:
    """Return the product's curvature and what it makes of the gradients."""
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, damping)
    train, test = case.rotated(curvature, "train"), case.rotated(curvature, "test")
    plain = influence(curvature, test, train)
    norms = norms_of(curvature, train)
    own, theta = norms.self_influence, norms.theta
    found = {
        "influence": plain,
        "theta_relatif": plain / theta,
        "l_relatif": plain / own.sqrt(),
        "self_influence": own,
        "theta_norm": theta,
        "gradient_norm": norms.gradient,
    }
    return curvature, {name: values.numpy() for name, values in found.items()}


def assert_close(found: Array, expected: Array, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


every_case = pytest.mark.parametrize(
    ("model", "method", "damping"),
    [(model, method, damping) for model in MODELS for method in CURVATURES for damping in DAMPINGS],
)


@every_case
def test_the_curvature_is_the_references_dense_matrix(model, method, damping) -> None:
    case = explained(model)
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, damping)

    expected = case.undamped(method, curvature) + damping * np.eye(case.train.shape[1])

    assert_close(dense_curvature(curvature), expected)


@every_case
def test_scores_agree_with_the_explicit_inverse(model, method, damping) -> None:
    case = explained(model)
    curvature, found = product(case, method, damping)
    inverse = case.inverse(method, curvature)
    expected = {name: values for name, values in case.scores(inverse).items() if name in SCORES}
    expected["self_influence"] = scores.self_influence(inverse, case.train)
    expected["theta_norm"] = scores.theta_norm(inverse, case.train)
    expected["gradient_norm"] = np.linalg.norm(case.train, axis=1)

    norms = np.sqrt(scores.self_influence(inverse, case.test))[:, None] * np.sqrt(expected["self_influence"])
    resolved = np.abs(expected["influence"]) > CANCELLATION * norms
    assert resolved.mean() > 0.9
    for name, values in expected.items():
        chosen = resolved if values.ndim == 2 else slice(None)
        np.testing.assert_allclose(found[name][chosen], values[chosen], rtol=AGREEMENT)
        assert_close(found[name], values)


@pytest.mark.parametrize("damping", [1e-3, 1.0])
@pytest.mark.parametrize("method", CURVATURES)
@pytest.mark.parametrize("model", MODELS)
def test_l_relatif_ranks_like_the_cosine_of_whitened_gradients(model, method, damping) -> None:
    case = explained(model)
    curvature, found = product(case, method, damping)
    inverse = case.inverse(method, curvature)
    cosine = scores.l_relatif_cosine(inverse, case.test, case.train)

    norms = np.sqrt(scores.self_influence(inverse, case.test))[:, None]
    assert_close(found["l_relatif"] / norms, cosine)
    np.testing.assert_array_equal(scores.top_k(found["l_relatif"], 20)[0], scores.top_k(cosine, 20)[0])


@pytest.mark.parametrize("damping", [1e-3, 1e-1])
@pytest.mark.parametrize("method", CURVATURES)
@pytest.mark.parametrize("model", MODELS)
def test_no_method_falls_back_to_another(model, method, damping) -> None:
    """The identity's two denominators are the same; everywhere else the three methods differ, in score and in rank."""
    case = explained(model)
    _, found = product(case, method, damping)

    for one, other in combinations(SCORES, 2):
        same = method == "identity" and one != "influence"
        ratio = found[one] / found[other]
        rankings = [scores.top_k(found[name], 20)[0] for name in (one, other)]
        if same:
            # With H = 0 theta's denominator is |g| / lambda and l's |g| / sqrt(lambda).
            np.testing.assert_allclose(ratio, damping**0.5, rtol=TOLERANCE)
            np.testing.assert_array_equal(*rankings)
        else:
            # A common factor would leave the ranking as it is, so the factors themselves must differ.
            assert ratio.max() > 1.05 * ratio.min()
            assert (rankings[0] != rankings[1]).any()


def test_every_curvature_gives_its_own_scores() -> None:
    case = explained("two layers")
    found = {method: product(case, method, 1e-2)[1] for method in CURVATURES}

    for one, other in combinations(CURVATURES, 2):
        for name in SCORES:
            share = np.abs(found[one][name] / found[other][name] - 1)
            assert np.median(share) > 1e-2, f"{name} of {one} and {other}"


def test_identity_with_damping_one_gives_inner_products() -> None:
    case = explained("three layers")
    _, found = product(case, "identity", 1.0)

    assert_close(found["influence"], case.test @ case.train.T)
    assert_close(found["theta_norm"], np.linalg.norm(case.train, axis=1))
    assert_close(found["self_influence"], (case.train**2).sum(axis=1))


def test_rotation_keeps_inner_products_and_changes_entries() -> None:
    case = explained("two layers")
    curvature = curvature_of("kfac", case.model, case.problem.train_inputs, case.classes, 1e-3)

    rotated = joined(case.rotated(curvature, "train"))

    assert_close(rotated @ rotated.T, case.train @ case.train.T)
    assert np.abs(rotated - case.train).max() > 0.1 * np.abs(case.train).max()


def test_another_damping_needs_no_other_factors() -> None:
    case = explained("two layers")
    refitted = curvature_of("ekfac", case.model, case.problem.train_inputs, case.classes, 0.5)
    kept = curvature_of("ekfac", case.model, case.problem.train_inputs, case.classes, 1e-3)

    changed = Curvature(kept.blocks, 0.5)

    for name in kept.blocks:
        assert torch.equal(changed.inverse(name), refitted.inverse(name))
        assert torch.equal(changed.inverse(name), 1 / (kept.blocks[name].spectrum + 0.5))


@pytest.mark.parametrize("method", CURVATURES)
def test_a_move_to_a_device_changes_nothing_else(method) -> None:
    case = explained("two layers")
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, 1e-3)

    moved = curvature.to("cpu")

    assert moved.damping == curvature.damping
    np.testing.assert_array_equal(dense_curvature(moved), dense_curvature(curvature))


@every_case
def test_solving_is_multiplying_by_the_inverse(model, method, damping) -> None:
    case = explained(model)
    curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, damping)
    gradients = gradients_of(case.model, case.problem.train_inputs, case.problem.train_labels)

    found = curvature.solve(gradients)

    assert {name: values.shape[1:] for name, values in found.items()} == {
        name: gradient.shape for name, gradient in gradients.items()
    }
    rows = torch.cat([values.flatten(1) for values in found.values()], dim=1).numpy()
    assert_close(rows, case.train @ case.inverse(method, curvature))


def test_a_joint_curvature_couples_layers_and_others_do_not() -> None:
    case = explained("two layers")
    first = case.model[0].weight.numel() + case.model[0].bias.numel()
    for method in CURVATURES:
        curvature = curvature_of(method, case.model, case.problem.train_inputs, case.classes, 1e-2)
        coupling = np.abs(dense_curvature(curvature)[:first, first:]).max()
        assert (float(coupling) > 1e-3) is curvature.is_joint is (method == "exact")


def test_indefinite_matrices_are_refused_with_the_damping_that_suffices() -> None:
    blocks = {"a": LayerCurvature(None, torch.tensor([[0.5, -0.25]])), "b": LayerCurvature(None, torch.ones(1, 1))}
    check_positive(Curvature(blocks, 0.26))
    for damping in (0.25, 0.1):
        with pytest.raises(NumericalError, match=r"found -0\.25 as the smallest eigenvalue .*damping above 0\.25"):
            check_positive(Curvature(blocks, damping))
