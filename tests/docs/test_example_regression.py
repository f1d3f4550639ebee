"""The worked example of a regression, cut to fewer parameters, against a dense reference."""

import torch
from torch import Tensor

from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from tests.support.example_scores import Reference, assert_agree, pipeline_scores, reference_scores
from tests.support.examples import example

WIDTH, DAMPING, VARIANCE = 5, 0.01, 0.09
TRAIN, TESTS = 30, 6


def squared(outputs: Tensor, target: Tensor) -> Tensor:
    return (outputs - target).square().sum() / (2 * VARIANCE)


def two_points(outputs: Tensor) -> list[tuple[Tensor, float]]:
    """A standard deviation below and above, as likely as each other: they have the normal's second moment."""
    return [(outputs.detach() + sign * VARIANCE**0.5, 0.5) for sign in (-1, 1)]


def test_scores_of_a_regression_are_those_of_the_explicit_inverse() -> None:
    module = example("regression")
    torch.manual_seed(0)
    model = module.Regressor(WIDTH).double().eval()
    inputs = torch.randn(TRAIN + TESTS, module.FEATURES, dtype=torch.float64)
    prices = torch.randn(TRAIN, 1, dtype=torch.float64)

    train, test = Examples(inputs[:TRAIN], prices, 0), Examples(inputs[TRAIN:], prices[:TESTS], 0)
    found = pipeline_scores(model, Gaussian(1, VARIANCE), train, test, DAMPING, measurement="output")

    measured = Reference(model, lambda outputs, _: -outputs.sum(), two_points)
    expected = reference_scores(
        Reference(model, squared, two_points),
        (inputs[:TRAIN], prices[:, 0]),
        inputs[TRAIN:],
        DAMPING,
        lambda outputs: outputs,
        measured=measured,
    )
    assert_agree(found, expected)
