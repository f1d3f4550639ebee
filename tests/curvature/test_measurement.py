"""What is explained: values and gradients of measurements by their definitions, and what makes no sense refused."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Categorical, Likelihood, cross_entropy
from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.pipeline.curvature.measurement import Raised, measurement_of
from relatif.schemas.errors import ConfigurationError, ModelError
from tests.support.likelihoods import close

ROWS, CLASSES = 6, 4
LABELS = torch.arange(ROWS) % CLASSES
OUTPUTS = 2 * torch.randn(ROWS, CLASSES, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
DIGITS = 1e-13


def own_loss(outputs: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(outputs / 2, labels)


def test_the_loss_is_the_likelihoods() -> None:
    likelihood = Categorical(CLASSES)
    found = measurement_of("loss", likelihood)
    assert torch.equal(found.values(OUTPUTS, LABELS), likelihood.losses(OUTPUTS, LABELS))
    assert torch.equal(found.gradient(OUTPUTS, LABELS), likelihood.gradient(OUTPUTS, LABELS))


def test_a_logit_is_lowered_as_its_negative() -> None:
    found = measurement_of("logit", Categorical(CLASSES))
    close(found.values(OUTPUTS, LABELS), -OUTPUTS[torch.arange(ROWS), LABELS])
    close(found.gradient(OUTPUTS, LABELS), -torch.nn.functional.one_hot(LABELS, CLASSES).double())


@pytest.mark.parametrize(
    ("likelihood", "scale"),
    [
        (Categorical(CLASSES), 1.0),
        (Categorical(CLASSES, own_loss), 0.5),
        (Categorical(CLASSES, label_smoothing=0.1), 1.0),
    ],
)
def test_a_margin_is_the_log_odds(likelihood: Categorical, scale: float) -> None:
    found = measurement_of("margin", likelihood)
    p = (scale * OUTPUTS).softmax(dim=1)[torch.arange(ROWS), LABELS]
    close(found.values(OUTPUTS, LABELS), -(p / (1 - p)).log())
    # d/dz log p_y / (1 - p_y) = onehot(y) - softmax of the other classes.
    others = (scale * OUTPUTS).masked_fill(torch.nn.functional.one_hot(LABELS, CLASSES).bool(), -torch.inf)
    expected = others.softmax(dim=1) - torch.nn.functional.one_hot(LABELS, CLASSES)
    close(found.gradient(OUTPUTS, LABELS), scale * expected)


def test_a_margin_of_an_almost_certain_label_keeps_its_digits() -> None:
    outputs = torch.tensor([[800.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    found = measurement_of("margin", Categorical(CLASSES))
    label = torch.tensor([0])
    assert float(found.values(outputs, label)) == pytest.approx(
        float(torch.tensor(3.0).double().log()) - 800, rel=DIGITS
    )
    expected = torch.tensor([[-1.0, 1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    torch.testing.assert_close(found.gradient(outputs, label), expected, rtol=DIGITS, atol=0)


def test_an_output_is_a_regressions_prediction() -> None:
    found = measurement_of("output", Gaussian(CLASSES))
    close(found.values(OUTPUTS, OUTPUTS), -OUTPUTS.sum(dim=1))
    close(found.gradient(OUTPUTS, OUTPUTS), -torch.ones(ROWS, CLASSES).double())
    one = Gaussian(CLASSES).explained(OUTPUTS, OUTPUTS, 2)
    assert found.gradient(OUTPUTS, one).tolist() == [[0.0, 0.0, -1.0, 0.0]] * ROWS


@pytest.mark.parametrize(
    ("name", "likelihood", "there"),
    [
        ("output", Categorical(CLASSES), "loss, logit, margin or module:function"),
        ("output", Bernoulli(3), "loss, logit, margin or"),
        ("output", TokenCategorical(3), "loss, logit, margin or"),
        ("margin", Gaussian(), "loss, output or"),
        ("logit", Gaussian(), "loss, output or"),
        ("columns", Gaussian(), "loss, output or"),
    ],
)
def test_what_a_likelihood_lacks_is_refused_with_what_it_has(name: str, likelihood: Likelihood, there: str) -> None:
    with pytest.raises(ConfigurationError, match=f"expected score.measurement to be {there}.*, found {name}"):
        measurement_of(name, likelihood)


def test_a_logit_of_outputs_that_are_no_scores_of_labels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"for score.measurement = logit, found shape \[6, 4\]"):
        measurement_of("logit", Categorical(2, own_loss)).values(OUTPUTS, LABELS)


def test_a_function_of_the_users_is_raised() -> None:
    found = Raised(lambda outputs, targets: outputs.square().sum(dim=1) + targets)
    close(found.values(OUTPUTS, LABELS), -OUTPUTS.square().sum(dim=1) - LABELS)
    close(found.gradient(OUTPUTS, LABELS), -2 * OUTPUTS)
    with pytest.raises(ModelError, match="a loss for each of 6 examples"):
        Raised(lambda outputs, targets: outputs.mean()).values(OUTPUTS, LABELS)
