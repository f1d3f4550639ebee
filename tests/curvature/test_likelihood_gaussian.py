"""Numbers with normal noise: losses against torch's distribution, terms against closed forms and drawn targets."""

import math

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.fisher import Fisher, fisher_gradients
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.per_example import differentiated
from relatif.schemas.errors import ConfigurationError, DataError, ModelError
from tests.support.likelihoods import DRAWS, close, drawn_moment, summed_terms

ROWS, WIDTH, VARIANCE = 6, 3, 0.7
LIKELIHOOD = Gaussian(WIDTH, VARIANCE)


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    outputs, targets = (torch.randn(ROWS, WIDTH, generator=generator, dtype=torch.float64) for _ in range(2))
    return outputs, targets


def test_losses_are_those_of_the_normal_density() -> None:
    outputs, targets = problem()
    expected = -torch.distributions.Normal(outputs, math.sqrt(VARIANCE)).log_prob(targets).sum(dim=1)
    close(LIKELIHOOD.losses(outputs, targets), expected)


def test_the_gradient_is_autograds() -> None:
    outputs, targets = problem()
    leaf = outputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LIKELIHOOD.losses(leaf, targets).sum(), leaf)
    close(LIKELIHOOD.gradient(outputs, targets), expected)


@pytest.mark.parametrize("terms", ["expectation", "curvature_terms"])
def test_terms_are_the_inverse_variance(terms: str) -> None:
    outputs, targets = problem()
    found = summed_terms(LIKELIHOOD, outputs, targets, terms)
    close(found, torch.eye(WIDTH, dtype=torch.float64).expand(ROWS, -1, -1) / VARIANCE)


def test_drawn_targets_have_the_second_moment() -> None:
    outputs, _ = problem()
    found = drawn_moment(LIKELIHOOD, outputs[:1])
    # A product of two normals has a standard deviation of at most sqrt(2): five of the mean's.
    allowed = 5 * math.sqrt(2 / DRAWS) / VARIANCE
    assert float((found - torch.eye(WIDTH, dtype=torch.float64) / VARIANCE).abs().max()) < allowed


def test_numbers_that_are_left_out_have_no_loss_gradient_or_term() -> None:
    outputs, targets = problem()
    targets[:, 1] = torch.nan
    rest = torch.tensor([0, 2])
    close(LIKELIHOOD.losses(outputs, targets), Gaussian(2, VARIANCE).losses(outputs[:, rest], targets[:, rest]))
    assert LIKELIHOOD.gradient(outputs, targets)[:, 1].tolist() == [0.0] * ROWS
    close(differentiated(LIKELIHOOD.losses, outputs, targets), LIKELIHOOD.gradient(outputs, targets))
    found = summed_terms(LIKELIHOOD, outputs, targets, "curvature_terms")
    close(found, torch.diag(torch.tensor([1.0, 0, 1]).double()).expand(ROWS, -1, -1) / VARIANCE)
    ((gradient, _),) = fisher_gradients(Fisher("sampled"), LIKELIHOOD, outputs, targets, first_index=0)
    assert (gradient == 0).tolist() == [[False, True, False]] * ROWS


@pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)])
@pytest.mark.parametrize("target", [(ROWS,), (ROWS, 1)])
def test_one_output_comes_with_or_without_an_axis(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    outputs, targets = (values[:, 0] for values in problem())
    likelihood = Gaussian(1, VARIANCE)
    expected = -torch.distributions.Normal(outputs, math.sqrt(VARIANCE)).log_prob(targets)
    close(likelihood.losses(outputs.reshape(shape), targets.reshape(target)), expected)
    found = likelihood.gradient(outputs.reshape(shape), targets.reshape(target))
    assert found.shape == shape
    close(found.flatten(), (outputs - targets) / VARIANCE)


def test_explained_are_the_datas_numbers_the_models_or_one_output() -> None:
    outputs, targets = problem()
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "true"), targets)
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "predicted"), outputs)
    close(LIKELIHOOD.output(outputs, LIKELIHOOD.explained(outputs, targets, "predicted")), outputs.sum(dim=1))
    close(LIKELIHOOD.output(outputs, LIKELIHOOD.explained(outputs, targets, 1)), outputs[:, 1])


def test_the_models_own_prediction_is_measured_by_its_output() -> None:
    assert [LIKELIHOOD.default_measurement(choice) for choice in ("predicted", 2, "true")] == ["output"] * 2 + ["loss"]
    LIKELIHOOD.check_measurement("loss", "true")
    LIKELIHOOD.check_measurement("output", "predicted")
    with pytest.raises(ConfigurationError, match="at its own prediction the loss has no gradient"):
        LIKELIHOOD.check_measurement("loss", "predicted")


def test_the_density_integrates_to_1() -> None:
    outputs, _ = problem()
    close(LIKELIHOOD.total_probability(outputs), torch.ones(ROWS, dtype=torch.float64))


def test_columns_are_targets_and_predictions() -> None:
    outputs, targets = problem()
    found = LIKELIHOOD.columns(outputs, targets, targets, torch.zeros(ROWS))
    assert list(found) == ["target", "prediction"]
    assert torch.equal(found["target"], targets)
    assert torch.equal(found["prediction"], outputs)


def test_what_does_not_fit_is_refused() -> None:
    outputs, targets = problem()
    with pytest.raises(ModelError, match=r"to return 2 number\(s\) for each example, found outputs of shape \[6, 3\]"):
        Gaussian(2).losses(outputs, targets)
    with pytest.raises(DataError, match=r"a target of 3 number\(s\) for each example, found shape \[6\]"):
        LIKELIHOOD.losses(outputs, targets[:, 0])
    with pytest.raises(DataError, match=r"finite numbers, found -?inf"):
        LIKELIHOOD.explained(outputs, targets / 0, "true")
    with pytest.raises(ConfigurationError, match="an output from 0 to 2, found 3"):
        LIKELIHOOD.check_choice(3, 0)
    assert LIKELIHOOD.expected_of_data((0,)) is None
    assert LIKELIHOOD.expected_of_data((3,)) == ("data without classes (numbers to predict as data.target_columns)")
    for wrong in ((0, 1.0), (1, 0.0), (1, math.inf), (1, math.nan)):
        with pytest.raises(ConfigurationError, match="with a variance above 0"):
            Gaussian(*wrong)


def test_examples_without_any_target_are_known() -> None:
    _, targets = problem()
    targets[0], targets[1, 0] = torch.nan, torch.nan
    assert LIKELIHOOD.missing(targets).tolist() == [True] + [False] * (ROWS - 1)
