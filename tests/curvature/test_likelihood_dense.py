"""A class for each pixel is a word for each token, in another order of axes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.likelihood_dense import DenseCategorical
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.schemas.errors import ConfigurationError, DataError
from tests.support.likelihoods import DRAWS, close, drawn_moment, summed_terms

ROWS, CLASSES, HEIGHT, WIDTH = 3, 3, 2, 2
LIKELIHOOD = DenseCategorical(CLASSES, 255)


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    outputs = 2 * torch.randn(ROWS, CLASSES, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, CLASSES, (ROWS, HEIGHT, WIDTH), generator=generator)
    targets[1, 0, 1] = 255
    return outputs, targets


def as_tokens(outputs: Tensor) -> Tensor:
    return outputs.permute(0, 2, 3, 1).reshape(len(outputs), HEIGHT * WIDTH, CLASSES)


TOKENS = TokenCategorical(CLASSES, 255)


def test_losses_and_gradients_are_torchs() -> None:
    outputs, targets = problem()
    leaf = outputs.clone().requires_grad_()
    losses = functional.cross_entropy(leaf, targets, ignore_index=255, reduction="none").sum(dim=(1, 2))
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    close(LIKELIHOOD.losses(outputs, targets), losses.detach())
    close(LIKELIHOOD.gradient(outputs, targets), gradient)


@pytest.mark.parametrize("terms", ["expectation", "curvature_terms"])
def test_terms_are_those_of_tokens(terms: str) -> None:
    outputs, targets = problem()
    order = as_tokens(torch.arange(outputs[0].numel()).reshape(1, *outputs.shape[1:])).flatten()
    found = summed_terms(LIKELIHOOD, outputs, targets, terms)[:, order][:, :, order]
    close(found, summed_terms(TOKENS, as_tokens(outputs), targets.flatten(1), terms))


def test_drawn_images_have_the_second_moment() -> None:
    outputs, targets = problem()
    expected = summed_terms(LIKELIHOOD, outputs[1:2], targets[1:2])[0]
    # Products of gradients lie between -1 and 1: five standard deviations of their mean.
    assert float((drawn_moment(LIKELIHOOD, outputs[1:2], targets[1:2]) - expected).abs().max()) < 5 / DRAWS**0.5


def test_predictions_and_measurements_are_those_of_tokens() -> None:
    outputs, targets = problem()
    rows, flat = as_tokens(outputs), targets.flatten(1)
    assert torch.equal(
        LIKELIHOOD.explained(outputs, targets, "predicted").flatten(1), TOKENS.explained(rows, flat, "predicted")
    )
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "true"), targets)
    close(LIKELIHOOD.logit(outputs, targets), TOKENS.logit(rows, flat))
    close(LIKELIHOOD.margin(outputs, targets), TOKENS.margin(rows, flat))
    assert LIKELIHOOD.missing(torch.full_like(targets, 255)).all()
    assert LIKELIHOOD.columns(outputs, targets, targets, torch.zeros(ROWS)) == {}


def test_probabilities_of_classes_sum_to_1() -> None:
    outputs, _ = problem()
    close(LIKELIHOOD.total_probability(outputs), torch.ones(ROWS, dtype=torch.float64))


def test_what_does_not_fit_is_refused() -> None:
    outputs, targets = problem()
    with pytest.raises(DataError, match=r"found 255; .*ignore_index"):
        DenseCategorical(CLASSES).losses(outputs, targets)
    with pytest.raises(ConfigurationError, match="where targets are pixels, found 0"):
        LIKELIHOOD.check_choice(0, 0)
    with pytest.raises(ConfigurationError, match="an ignore_index that is no class"):
        DenseCategorical(3, 2)
