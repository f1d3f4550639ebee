"""Weights of classes and smoothed labels: torch's losses, their gradient, and the GGN against second derivatives."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.likelihood import Categorical
from relatif.schemas.errors import ConfigurationError
from tests.support.likelihoods import close, summed_terms

ROWS, CLASSES = 6, 4
CASES = [
    {"class_weights": (1.0, 0.5, 3.0, 0.0)},
    {"label_smoothing": 0.2},
    {"class_weights": (1.0, 0.5, 3.0, 2.0), "label_smoothing": 0.1},
]


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    outputs = 2 * torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64)
    return outputs, torch.arange(ROWS) % CLASSES


def by_torch(outputs: Tensor, labels: Tensor, class_weights=None, label_smoothing: float = 0.0) -> Tensor:
    weights = None if class_weights is None else torch.tensor(class_weights, dtype=outputs.dtype)
    return functional.cross_entropy(outputs, labels, weight=weights, label_smoothing=label_smoothing, reduction="none")


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_torchs(case: dict) -> None:
    outputs, labels = problem()
    likelihood = Categorical(CLASSES, **case)
    leaf = outputs.clone().requires_grad_()
    losses = by_torch(leaf, labels, **case)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    close(likelihood.losses(outputs, labels), losses.detach())
    close(likelihood.gradient(outputs, labels), gradient)


@pytest.mark.parametrize("case", CASES)
def test_terms_are_the_losses_second_derivative_at_the_outputs(case: dict) -> None:
    outputs, labels = problem()
    found = summed_terms(Categorical(CLASSES, **case), outputs, labels)
    for row in range(ROWS):
        one = labels[row : row + 1]
        hessian = torch.autograd.functional.hessian(lambda z, y=one: by_torch(z[None], y, **case).sum(), outputs[row])
        close(found[row], hessian)


def test_an_almost_certain_label_keeps_its_digits() -> None:
    outputs = torch.tensor([[100.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    found = Categorical(CLASSES, class_weights=(3.0, 1, 1, 1)).gradient(outputs, torch.tensor([0]))[0]
    expected = 3 * torch.tensor([-3.0, 1, 1, 1]).double() * torch.tensor(-100.0).double().exp()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_columns_have_the_weighted_loss_and_the_plain_probability() -> None:
    outputs, labels = problem()
    likelihood = Categorical(CLASSES, **CASES[2])
    losses = likelihood.losses(outputs, labels)
    found = likelihood.columns(outputs, labels, labels, losses)
    assert torch.equal(found["loss"], losses)
    close(found["probability"], outputs.softmax(dim=1).gather(1, labels[:, None])[:, 0])
    assert torch.equal(found["predicted_label"], outputs.argmax(dim=1))


def test_without_weights_and_smoothing_it_is_the_likelihood_itself() -> None:
    plain = Categorical(CLASSES)
    assert plain.likelihood is plain
    assert plain.gauss_newton is None
    assert Categorical(CLASSES, **CASES[2]).likelihood == plain
    assert "sum_c q_c w_c (diag p - p p')" in str(Categorical(CLASSES, **CASES[2]).gauss_newton)
    assert Categorical(2, class_weights=torch.ones(2)).class_weights == (1.0, 1.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [(1.0,), (1.0, 2, 3, -1), (0.0,) * 4, "abcd", 3, (1.0, 2, 3, float("inf"))])
def test_other_weights_are_refused(weights: object) -> None:
    with pytest.raises(ConfigurationError, match="class_weights of 4 numbers of at least 0"):
        Categorical(CLASSES, class_weights=weights)  # type: ignore[arg-type]


@pytest.mark.parametrize("smoothing", [1.0, -0.1, True, "0.1"])
def test_other_smoothing_is_refused(smoothing: object) -> None:
    with pytest.raises(ConfigurationError, match="label_smoothing from 0 to less than 1"):
        Categorical(CLASSES, label_smoothing=smoothing)  # type: ignore[arg-type]


def test_weights_beside_a_loss_of_ones_own_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="found a loss of its own beside them"):
        Categorical(CLASSES, lambda z, y: z[:, 0], class_weights=(1.0,) * 4)
