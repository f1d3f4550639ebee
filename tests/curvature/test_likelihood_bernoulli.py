"""Several labels, each a coin: losses against torch's, and terms against the enumeration of all targets."""

import itertools
from decimal import Decimal, localcontext

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.likelihood_bernoulli import Bernoulli
from relatif.pipeline.curvature.per_example import differentiated
from relatif.schemas.errors import ConfigurationError, DataError, ModelError
from tests.support.likelihoods import DRAWS, close, drawn_moment, summed_terms

ROWS, LABELS = 5, 3
LIKELIHOOD = Bernoulli(LABELS)
DIGITS = 1e-13


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    outputs = 2 * torch.randn(ROWS, LABELS, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(0, 2, (ROWS, LABELS), generator=generator).double()


def enumerated(outputs: Tensor) -> Tensor:
    """Return the expectation of ``g g'`` over all 2^L targets, with their probabilities, by the definition."""
    total = torch.zeros(len(outputs), LABELS, LABELS, dtype=torch.float64)
    p = 1 / (1 + (-outputs).exp())
    for bits in itertools.product([0.0, 1.0], repeat=LABELS):
        target = torch.tensor(bits).double()
        probability = torch.where(target == 1, p, 1 - p).prod(dim=1)
        gradient = p - target
        total += probability[:, None, None] * gradient[:, :, None] * gradient[:, None, :]
    return total


def test_losses_are_sums_of_binary_cross_entropies() -> None:
    outputs, targets = problem()
    expected = functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").sum(dim=1)
    close(LIKELIHOOD.losses(outputs, targets), expected)
    close(LIKELIHOOD.losses(outputs, targets.long()), expected)


@pytest.mark.parametrize("logit", [3.0, 30.0, 300.0])
def test_losses_and_gradients_of_almost_certain_labels_keep_their_digits(logit: float) -> None:
    with localcontext() as context:
        context.prec = 400
        other = 1 / (1 + Decimal(logit).exp())
        loss, rest = float(-(1 - other).ln()), float(other)
    outputs, targets = torch.tensor([[logit], [-logit]]).double(), torch.tensor([[1.0], [0.0]]).double()
    found = Bernoulli(1)
    torch.testing.assert_close(
        found.losses(outputs, targets), torch.tensor([loss, loss], dtype=torch.float64), rtol=DIGITS, atol=0
    )
    expected = torch.tensor([[-rest], [rest]], dtype=torch.float64)
    torch.testing.assert_close(found.gradient(outputs, targets), expected, rtol=DIGITS, atol=0)


def test_the_gradient_is_autograds() -> None:
    outputs, targets = problem()
    leaf = outputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LIKELIHOOD.losses(leaf, targets).sum(), leaf)
    close(LIKELIHOOD.gradient(outputs, targets), expected)


@pytest.mark.parametrize("terms", ["expectation", "curvature_terms"])
def test_terms_are_the_expectation_over_all_targets(terms: str) -> None:
    outputs, targets = problem()
    close(summed_terms(LIKELIHOOD, outputs, targets, terms), enumerated(outputs))


def test_drawn_targets_have_the_second_moment() -> None:
    outputs, _ = problem()
    # Products of gradients lie between -1 and 1: five standard deviations of their mean.
    assert float((drawn_moment(LIKELIHOOD, outputs[:1]) - enumerated(outputs[:1])[0]).abs().max()) < 5 / DRAWS**0.5


def test_labels_that_are_left_out_have_no_loss_gradient_or_term() -> None:
    outputs, targets = problem()
    targets[:, 1] = torch.nan
    rest = torch.tensor([0, 2])
    close(LIKELIHOOD.losses(outputs, targets), Bernoulli(2).losses(outputs[:, rest], targets[:, rest]))
    assert LIKELIHOOD.gradient(outputs, targets)[:, 1].tolist() == [0.0] * ROWS
    kept = torch.tensor([1.0, 0, 1]).double()
    close(summed_terms(LIKELIHOOD, outputs, targets), enumerated(outputs) * kept[:, None] * kept)
    for measured, sign in ((LIKELIHOOD.losses, 1), (LIKELIHOOD.logit, -1)):
        found = differentiated(measured, outputs, targets)
        assert found[:, 1].tolist() == [0.0] * ROWS
        assert bool((found[:, rest] * sign * (1 - 2 * targets[:, rest]) > 0).all())
    drawn = LIKELIHOOD.drawn(outputs, targets, torch.rand(ROWS))
    assert drawn.isnan().tolist() == [[False, True, False]] * ROWS


def test_explained_are_the_datas_labels_the_models_or_one_that_is_there() -> None:
    outputs, targets = problem()
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "true"), targets)
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "predicted"), (outputs.sigmoid() > 0.5).double())
    named = LIKELIHOOD.explained(outputs, targets, 2)
    close(LIKELIHOOD.losses(outputs, named), -outputs[:, 2].sigmoid().log())
    close(LIKELIHOOD.logit(outputs, named), outputs[:, 2])


def test_the_margin_of_coins_is_the_sum_of_their_log_odds() -> None:
    outputs, targets = problem()
    p = torch.where(targets == 1, outputs.sigmoid(), 1 - outputs.sigmoid())
    expected = (p / (1 - p)).log().sum(dim=1)
    close(LIKELIHOOD.margin(outputs, targets), expected)
    close(LIKELIHOOD.logit(outputs, targets), expected)


def test_probabilities_of_all_targets_sum_to_1() -> None:
    outputs, _ = problem()
    every = [torch.tensor(bits).double().expand(ROWS, -1) for bits in itertools.product([0.0, 1.0], repeat=LABELS)]
    total = torch.stack([(-LIKELIHOOD.losses(outputs, target)).exp() for target in every]).sum(dim=0)
    close(total, torch.ones(ROWS, dtype=torch.float64))
    close(LIKELIHOOD.total_probability(outputs), total)


def test_columns_are_targets_and_probabilities() -> None:
    outputs, targets = problem()
    found = LIKELIHOOD.columns(outputs, targets, targets, torch.zeros(ROWS))
    assert torch.equal(found["target"], targets)
    close(found["prediction"], 1 / (1 + (-outputs).exp()))


def test_what_does_not_fit_is_refused() -> None:
    outputs, targets = problem()
    with pytest.raises(ModelError, match=r"to return 2 number\(s\)"):
        Bernoulli(2).losses(outputs, targets)
    with pytest.raises(DataError, match="0 or 1 for each label, found 2"):
        LIKELIHOOD.explained(outputs, targets + 1, "true")
    with pytest.raises(ConfigurationError, match="a label from 0 to 2, found 3"):
        LIKELIHOOD.check_choice(3, 0)
    with pytest.raises(ConfigurationError, match="at least 1 label, found 0"):
        Bernoulli(0)
    assert LIKELIHOOD.missing(torch.tensor([[-1, -1, -1], [0, 1, 0]])).tolist() == [True, False]
