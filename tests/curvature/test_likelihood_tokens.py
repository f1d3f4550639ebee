"""Tokens of a sequence: losses against torch's cross-entropy, terms against enumeration, shifted targets by hand."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.fisher import Fisher, fisher_gradients
from relatif.pipeline.curvature.likelihood_tokens import TokenCategorical
from relatif.schemas.errors import ConfigurationError, DataError, ModelError
from tests.support.likelihoods import DRAWS, close, drawn_moment, summed_terms

ROWS, TOKENS, WORDS = 4, 3, 4
LIKELIHOOD = TokenCategorical(WORDS)
SHIFTED = TokenCategorical(WORDS, ignore_index=-7, shift=1)
LEFT_OUT = LIKELIHOOD.ignore_index


def problem() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    outputs = 2 * torch.randn(ROWS, TOKENS, WORDS, generator=generator, dtype=torch.float64)
    targets = torch.randint(0, WORDS, (ROWS, TOKENS), generator=generator)
    targets[1, 2], targets[2, 0] = LEFT_OUT, LEFT_OUT
    return outputs, targets


def shifted(targets: Tensor) -> Tensor:
    """Return targets as SHIFTED takes them: the first is anything, as no output predicts it."""
    first = torch.zeros(len(targets), 1, dtype=torch.int64)
    return torch.cat([first, torch.where(targets == LEFT_OUT, -7, targets)[:, :-1]], dim=1)


def enumerated(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the expectation of ``g g'`` over all V^T sequences, by the definition, for one example [T, V]."""
    kept = targets != LEFT_OUT
    p = outputs.softmax(dim=1)
    total = torch.zeros(outputs.numel(), outputs.numel(), dtype=torch.float64)
    for words in itertools.product(range(WORDS), repeat=TOKENS):
        gradient = ((p - functional.one_hot(torch.tensor(words), WORDS)) * kept[:, None]).flatten()
        total += p[torch.arange(TOKENS), list(words)].prod() * torch.outer(gradient, gradient)
    return total


def test_losses_are_sums_over_tokens_that_are_not_left_out() -> None:
    outputs, targets = problem()
    expected = functional.cross_entropy(outputs.mT, targets, reduction="none").sum(dim=1)
    close(LIKELIHOOD.losses(outputs, targets), expected)


def test_the_gradient_is_autograds() -> None:
    outputs, targets = problem()
    leaf = outputs.clone().requires_grad_()
    (expected,) = torch.autograd.grad(LIKELIHOOD.losses(leaf, targets).sum(), leaf)
    close(LIKELIHOOD.gradient(outputs, targets), expected)


def test_almost_certain_words_keep_their_digits() -> None:
    outputs = torch.tensor([[[200.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    found = LIKELIHOOD.gradient(outputs, torch.tensor([[0]]))[0, 0]
    expected = torch.tensor([-3.0, 1, 1, 1]).double() * torch.tensor(-200.0).double().exp()
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_terms_are_the_expectation_over_all_sequences() -> None:
    outputs, targets = problem()
    found = summed_terms(LIKELIHOOD, outputs, targets)
    for row in range(ROWS):
        close(found[row], enumerated(outputs[row], targets[row]))
    whole = summed_terms(LIKELIHOOD, outputs, targets, "expectation")
    close(whole[0], enumerated(outputs[0], torch.zeros(TOKENS).long()))


def test_drawn_sequences_have_the_second_moment() -> None:
    outputs, targets = problem()
    found = drawn_moment(LIKELIHOOD, outputs[1:2], targets[1:2])
    # Products of gradients lie between -1 and 1: five standard deviations of their mean.
    assert float((found - enumerated(outputs[1], targets[1])).abs().max()) < 5 / DRAWS**0.5


def test_a_drawn_sequence_depends_on_its_row_alone() -> None:
    outputs, targets = problem()
    fisher = Fisher("sampled", seed=4)
    ((whole, _),) = fisher_gradients(fisher, LIKELIHOOD, outputs, targets, first_index=10)
    ((part, _),) = fisher_gradients(fisher, LIKELIHOOD, outputs[2:], targets[2:], first_index=12)
    assert torch.equal(whole[2:], part)


def test_a_shift_moves_targets_on() -> None:
    outputs, targets = problem()
    targets[:, -1] = LEFT_OUT
    theirs = shifted(targets)
    close(SHIFTED.losses(outputs, theirs), LIKELIHOOD.losses(outputs, targets))
    # As Hugging Face's causal models: outputs but the last against targets but the first.
    expected = functional.cross_entropy(outputs[:, :-1].mT, theirs[:, 1:], ignore_index=-7, reduction="none")
    close(SHIFTED.losses(outputs, theirs), expected.sum(dim=1))
    close(SHIFTED.gradient(outputs, theirs), LIKELIHOOD.gradient(outputs, targets))
    close(summed_terms(SHIFTED, outputs, theirs), summed_terms(LIKELIHOOD, outputs, targets))
    close(SHIFTED.logit(outputs, theirs), LIKELIHOOD.logit(outputs, targets))
    close(SHIFTED.margin(outputs, theirs), LIKELIHOOD.margin(outputs, targets))
    found, plain = (
        each.explained(outputs, its, "predicted") for each, its in ((SHIFTED, theirs), (LIKELIHOOD, targets))
    )
    assert found[:, 0].tolist() == [-7] * ROWS
    assert torch.equal(found[:, 1:], shifted(plain)[:, 1:])
    close(SHIFTED.losses(outputs, found), LIKELIHOOD.losses(outputs, plain))
    for fisher in (Fisher("sampled", seed=1), Fisher("empirical")):
        ((mine, _),) = fisher_gradients(fisher, SHIFTED, outputs, theirs, first_index=0)
        ((other, _),) = fisher_gradients(fisher, LIKELIHOOD, outputs, targets, first_index=0)
        close(mine, other)


def test_predicted_words_stand_where_the_data_has_targets() -> None:
    outputs, targets = problem()
    found = LIKELIHOOD.explained(outputs, targets, "predicted")
    assert torch.equal(found == LEFT_OUT, targets == LEFT_OUT)
    kept = targets != LEFT_OUT
    assert torch.equal(found[kept], outputs.argmax(dim=2)[kept])
    assert torch.equal(LIKELIHOOD.explained(outputs, targets, "true"), targets)
    without = torch.full_like(targets, -1)
    assert torch.equal(LIKELIHOOD.explained(outputs, without, "predicted"), outputs.argmax(dim=2))
    assert LIKELIHOOD.missing(without).all()
    assert not LIKELIHOOD.missing(targets).any()


def test_margins_are_sums_of_log_odds() -> None:
    outputs, targets = problem()
    p = outputs.softmax(dim=2).gather(2, targets.clamp(min=0)[..., None])[..., 0]
    expected = torch.where(targets == LEFT_OUT, 0.0, (p / (1 - p)).log()).sum(dim=1)
    close(LIKELIHOOD.margin(outputs, targets), expected)
    sure = torch.tensor([[[900.0, 0.0, 0.0, 0.0]]], dtype=torch.float64)
    assert float(LIKELIHOOD.margin(sure, torch.tensor([[0]]))) == pytest.approx(900 - torch.tensor(3.0).log().item())


@pytest.mark.parametrize("likelihood", [LIKELIHOOD, SHIFTED])
def test_probabilities_of_words_sum_to_1(likelihood: TokenCategorical) -> None:
    outputs, _ = problem()
    close(likelihood.total_probability(outputs), torch.ones(ROWS, dtype=torch.float64))


def test_columns_are_words_with_gaps() -> None:
    outputs, targets = problem()
    found = LIKELIHOOD.columns(outputs, targets, targets, torch.zeros(ROWS))
    assert list(found) == ["target", "prediction"]
    for values in found.values():
        assert torch.equal(values.isnan(), targets == LEFT_OUT)
    assert found["prediction"][0].tolist() == outputs[0].argmax(dim=1).tolist()


def test_targets_that_are_the_inputs_are_refused_without_a_shift() -> None:
    ids = torch.tensor([[1, 2, 3], [0, 1, 0]])
    with pytest.raises(ModelError, match=r"found them equal to the inputs: .*shift=1"):
        LIKELIHOOD.check_inputs(ids.double(), ids.masked_fill(ids == 0, LEFT_OUT))
    SHIFTED.check_inputs(ids, ids)
    LIKELIHOOD.check_inputs(ids, ids.flip(1))


def test_too_many_terms_are_refused_with_what_to_set() -> None:
    outputs = torch.zeros(1, 3, 1000, dtype=torch.float64)
    message = "at most 2,048 terms of the exact Fisher, .* found 3 x 1,000; set curvature.fisher = sampled"
    with pytest.raises(ModelError, match=message):
        next(TokenCategorical(1000).curvature_terms(outputs, torch.zeros(1, 3).long()))
    assert LIKELIHOOD.default_fisher == "sampled"


def test_what_does_not_fit_is_refused() -> None:
    outputs, targets = problem()
    with pytest.raises(DataError, match="targets from 0 to 3, or -100 where a place is left out, found 4"):
        LIKELIHOOD.losses(outputs, torch.full_like(targets, WORDS))
    with pytest.raises(DataError, match="found -1"):
        LIKELIHOOD.losses(outputs, torch.full_like(targets, -1))
    with pytest.raises(DataError, match=r"targets int64 \[4, 3\], .*found int64 \[4, 2\]"):
        LIKELIHOOD.losses(outputs, targets[:, :2])
    with pytest.raises(ModelError, match="expected scores of 5 classes at each place"):
        TokenCategorical(5).losses(outputs, targets)
    with pytest.raises(ConfigurationError, match="'predicted' or 'true' where targets are tokens, found 2"):
        LIKELIHOOD.check_choice(2, 0)
    for wrong in ((1,), (4, 2), (4, -100, -1)):
        with pytest.raises(ConfigurationError, match="an ignore_index that is no word"):
            TokenCategorical(*wrong)
