"""The exact curvature against dense float64 definitions: outer products of gradients, and differences of gradients."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature import exact
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.exact import (
    check_size,
    fisher_strips,
    hessian_strips,
    joint_eigen,
    joint_matrix,
    parameter_places,
    strips_of,
)
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Categorical, cross_entropy
from relatif.pipeline.curvature.model import CoveredModel
from relatif.schemas.errors import ConfigurationError, NumericalError
from tests.support.layered import CASES, CLASSES, subject_and_examples, weighted_gradients

torch.set_num_threads(1)

EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""

STEP = 1e-5
DIFFERENCES = 1e-8
"""Relative to the largest entry: central differences of gradients are off by STEP squared and by rounding / STEP."""


def joined(subject: CoveredModel, by_name: dict[str, Tensor]) -> Tensor:
    """Return a gradient by parameter names as the P numbers of the matrix's order."""
    places = parameter_places(subject.coverage)
    found = torch.full((sum(place.numel() for place in places.values()),), torch.nan, dtype=torch.float64)
    for name, place in places.items():
        found[place] = by_name[name]
    assert found.isfinite().all()
    return found


def dense_fisher(subject: CoveredModel, examples: Examples) -> Tensor:
    rows = [(weight, joined(subject, gradient)) for weight, gradient in weighted_gradients(subject, examples)]
    total = sum(weight * torch.outer(row, row) for weight, row in rows)
    assert isinstance(total, Tensor)
    return total


def dense_hessian(subject: CoveredModel, examples: Examples) -> Tensor:
    """Differences of gradients: torch.func.hessian of LayerNorm is wrong in torch 2.13, by up to 0.9.

    The padding row of an embedding is a constant: nothing is differentiated by it.
    """
    parameters = {name: each for name, each in subject.model.named_parameters() if each.requires_grad}

    def gradient() -> Tensor:
        loss = nn.functional.cross_entropy(subject.model(examples.inputs), examples.targets, reduction="sum")
        return joined(subject, dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True)))

    size = len(gradient())
    found = torch.zeros(size, size, dtype=torch.float64)
    for name, place in parameter_places(subject.coverage).items():
        values = parameters[name].data.view(-1)
        first = place.shape[1] if name == "embedding.weight" else 0
        for number, column in list(enumerate(place.flatten().tolist()))[first:]:
            kept = float(values[number])
            values[number] = kept + STEP
            above = gradient()
            values[number] = kept - STEP
            found[:, column] = (above - gradient()) / (2 * STEP)
            values[number] = kept
    return found


def assert_lower_half(found: Tensor, expected: Tensor, tolerance: float = EXACT) -> None:
    assert found.shape == expected.shape
    torch.testing.assert_close(found.tril(), expected.tril(), rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", CASES)
def test_fisher_is_the_sum_of_outer_products(name: str, kind: str, count: int) -> None:
    subject, examples = subject_and_examples(name, kind, count)
    strips = fisher_strips(subject, examples, strips_of(subject.coverage))
    assert_lower_half(joint_matrix(subject.coverage, strips), dense_fisher(subject, examples))


@pytest.mark.parametrize("name", CASES)
def test_hessian_is_the_derivative_of_the_gradient(name: str) -> None:
    subject, examples = subject_and_examples(name, "exact", 4)
    strips = hessian_strips(subject, examples, strips_of(subject.coverage))
    assert_lower_half(joint_matrix(subject.coverage, strips), dense_hessian(subject, examples), DIFFERENCES)


def test_of_a_linear_softmax_model_hessian_and_fisher_are_the_same() -> None:
    subject, examples = subject_and_examples("perceptron", "exact", 12)
    for parameter in (*subject.model[0].parameters(), *subject.model[2].parameters()):
        parameter.requires_grad_(False)
    subject = replace(subject, coverage=coverage(subject.model))
    strips = strips_of(subject.coverage)
    fisher = joint_matrix(subject.coverage, fisher_strips(subject, examples, strips))
    assert_lower_half(joint_matrix(subject.coverage, hessian_strips(subject, examples, strips)), fisher)


@pytest.mark.parametrize("of_batch", [fisher_strips, hessian_strips])
def test_strips_do_not_depend_on_which_others_are_asked_for(of_batch) -> None:
    subject, examples = subject_and_examples("images", "exact", 3)
    every = strips_of(subject.coverage)
    together = of_batch(subject, examples, every)
    for strip in (every[0], every[3], every[-1]):
        assert torch.equal(of_batch(subject, examples, [strip])[strip], together[strip])


def test_the_eigendecomposition_reads_the_lower_half() -> None:
    subject, examples = subject_and_examples("perceptron", "exact", 30)
    expected = dense_fisher(subject, examples)
    values, vectors = joint_eigen(
        joint_matrix(subject.coverage, fisher_strips(subject, examples, strips_of(subject.coverage)))
    )
    torch.testing.assert_close(vectors @ torch.diag(values) @ vectors.T, expected, rtol=0, atol=1e-10)
    assert bool((values.diff() >= 0).all())


def test_places_tell_every_covered_parameter_once() -> None:
    subject, _ = subject_and_examples("images", "exact", 1)
    places = parameter_places(subject.coverage)
    assert {name: place.shape for name, place in places.items()} == {
        name: value.shape for name, value in subject.model.named_parameters()
    }
    joint = torch.cat([place.flatten() for place in places.values()])
    assert joint.sort().values.tolist() == list(range(len(joint)))


def test_a_loss_that_is_not_finite_is_named_by_row() -> None:
    subject, examples = subject_and_examples("perceptron", "exact", 3)
    subject = replace(subject, likelihood=Categorical(CLASSES, _broken_at_two))
    with pytest.raises(NumericalError, match="train example 42"):
        hessian_strips(subject, examples, strips_of(subject.coverage))


def _broken_at_two(outputs: Tensor, labels: Tensor) -> Tensor:
    losses = cross_entropy(outputs, labels)
    return losses + torch.tensor([0.0, 0.0, torch.inf], dtype=torch.float64)


def test_too_many_parameters_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    covered = coverage(torch.nn.Linear(30, 20))
    check_size(covered)
    monkeypatch.setattr(exact, "LARGEST_PARAMETERS", 619)
    with pytest.raises(ConfigurationError, match=r"at most 619 covered parameters .* found 620; choose fewer"):
        check_size(covered)
