"""Losses that are no negative log-likelihoods are refused, saying what to do; those that are pass."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.auditing.likelihoods import check_likelihood
from relatif.pipeline.auditing.outputs import outputs_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical, PerExampleLoss, Term, cross_entropy, differentiated
from relatif.schemas.errors import ModelError
from tests.curvature.test_model import Gaussian
from tests.support import audited

torch.set_num_threads(1)

ROUNDING = 1e-12
WEIGHTS = torch.tensor([1.0, 3.0, 10.0], dtype=torch.float64)


def outputs() -> Tensor:
    return outputs_of(audited.built(audited.good), audited.examples().inputs)


def checked(loss: PerExampleLoss) -> dict[str, float]:
    return check_likelihood(Categorical(audited.CLASSES, loss), Fisher(), outputs(), audited.examples(), "train")


def of_penalty(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels) + 0.01 * logits.square().sum(dim=1)


def of_focus(logits: Tensor, labels: Tensor) -> Tensor:
    losses = cross_entropy(logits, labels)
    return losses * (1 - (-losses).exp()).square()


def of_changed_outputs(logits: Tensor, labels: Tensor) -> Tensor:
    with torch.no_grad():
        logits.sub_(logits.amax(dim=1, keepdim=True))
    return cross_entropy(logits, labels)


def of_batch_weights(logits: Tensor, labels: Tensor) -> Tensor:
    return cross_entropy(logits, labels) / labels.bincount(minlength=audited.CLASSES)[labels]


SUM = "exp\\(-loss\\) to sum to 1 over all targets, found .* for train example 2[0-3]: .*leave class weights, label"
ALONE = "the loss of an example to depend on that example alone"

WRONG: dict[str, tuple[Callable[[Tensor, Tensor], object], str]] = {
    "class weights": (lambda z, y: functional.cross_entropy(z, y, WEIGHTS, reduction="none"), SUM),
    "smoothing": (lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.1, reduction="none"), SUM),
    "bits": (lambda z, y: cross_entropy(z, y) / torch.log(torch.tensor(2.0, dtype=torch.float64)), SUM),
    "penalty": (of_penalty, SUM),
    "focal": (of_focus, SUM),
    "label less than all outputs": (lambda z, y: cross_entropy(functional.pad(z, (0, 1)), y), SUM),
    "negative": (lambda z, y: -z.softmax(dim=1).gather(1, y[:, None])[:, 0], "losses of at least 0, .* found -0"),
    "mean": (functional.cross_entropy, "a loss for each of 4 examples, found shape \\[\\]"),
    "number": (lambda z, y: functional.cross_entropy(z, y).item(), "a loss for each of 4 examples, found float"),
    "mean repeated": (lambda z, y: functional.cross_entropy(z, y).expand(len(y)), ALONE),
    "weighted by the batch": (of_batch_weights, ALONE),
    "cut off": (lambda z, y: cross_entropy(z.detach(), y), "differentiated at the model's outputs, found them cut"),
    "float32": (lambda z, y: cross_entropy(z.float(), y), "outputs' precision torch.float64, found torch.float32"),
    "changes outputs": (of_changed_outputs, "to leave outputs and targets as they were"),
    "infinite": (lambda z, y: cross_entropy(z, y) / (y != 2), "finite losses, found inf for train example 22"),
}

RIGHT: dict[str, PerExampleLoss] = {
    "cross entropy": cross_entropy,
    "temperature": lambda z, y: cross_entropy(z / 2, y),
    "clipped": lambda z, y: cross_entropy(z.clamp(-0.3, 0.3), y),
    "largest is least": lambda z, y: cross_entropy(-z, y),
    "of probabilities": lambda z, y: -z.softmax(dim=1).gather(1, y[:, None])[:, 0].log(),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_loss_that_is_no_likelihood_is_refused(name: str) -> None:
    loss, message = WRONG[name]
    with pytest.raises(ModelError, match=message):
        checked(loss)  # type: ignore[arg-type]


def of_pairs(logits: Tensor, labels: Tensor) -> Tensor:
    """The first half of a contrastive loss: each example has to find itself among its batch."""
    return cross_entropy(logits @ logits.T, torch.arange(len(labels)))


def test_a_loss_over_pairs_is_refused_as_that() -> None:
    with pytest.raises(ModelError, match=ALONE + r".*a loss over pairs of examples.* has no influence of one example"):
        checked(of_pairs)


@pytest.mark.parametrize("name", RIGHT)
def test_a_negative_log_likelihood_passes(name: str) -> None:
    assert max(checked(RIGHT[name]).values()) < ROUNDING


class Largest(Categorical):
    """Predicts the label of the largest output, whatever the loss says."""

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        return outputs.argmax(dim=1)


def test_a_prediction_that_is_not_the_most_probable_label_is_refused() -> None:
    likelihood = Largest(audited.CLASSES, RIGHT["largest is least"])
    with pytest.raises(ModelError, match="the label of the most probable class, found train example 2"):
        check_likelihood(likelihood, Fisher(), outputs(), audited.examples(), "train")


def regression() -> tuple[Tensor, Examples]:
    made = outputs()
    return made, Examples(audited.examples().inputs, made.flip(0), 0)


@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
def test_a_likelihood_of_vectors_passes_without_a_rule_for_its_probabilities(kind: str) -> None:
    made, examples = regression()
    found = check_likelihood(Gaussian(), Fisher(kind), made, examples, "train")  # type: ignore[arg-type]
    assert max(found.values()) < ROUNDING
    assert "total probability" not in found


@dataclass(frozen=True)
class Doubled(Gaussian):
    """A gradient that forgets to halve."""

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 2 * (outputs - targets)


@dataclass(frozen=True)
class Negative(Gaussian):
    """Terms of a negative weight."""

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        yield outputs, -outputs.new_ones(len(outputs))


@dataclass(frozen=True)
class Density(Gaussian):
    """Losses with their constant, and the integral of the density by a sum over a grid of the first axis."""

    constant: float = 1.5 * torch.log(torch.tensor(2 * torch.pi)).item()

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum(dim=1) / 2 + self.constant

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return differentiated(self.losses, outputs, targets)

    def total_probability(self, outputs: Tensor) -> Tensor:
        steps = torch.linspace(-9, 9, 361, dtype=outputs.dtype)
        along = torch.stack([(-self.losses(outputs, outputs + step * _UNIT)).exp() for step in steps]).sum(dim=0)
        return along * 0.05 * 2 * torch.pi  # the two other axes integrate to 2 pi


_UNIT = torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)


def test_a_likelihoods_own_rule_decides() -> None:
    made, examples = regression()
    assert check_likelihood(Density(), Fisher(), made, examples, "train")["total probability"] < 1e-6
    with pytest.raises(ModelError, match=r"to sum to 1 over all targets, found 2\.7182\d* for train example"):
        check_likelihood(Density(constant=Density().constant - 1), Fisher(), made, examples, "train")


@pytest.mark.parametrize(
    ("likelihood", "message"),
    [
        (Doubled(), "the likelihood's gradient to be that of its losses, found them to differ by"),
        (Negative(), "to weigh each of 4 examples by a number of at least 0, found \\[-1.0"),
    ],
)
def test_a_likelihood_that_contradicts_itself_is_refused(likelihood: Gaussian, message: str) -> None:
    made, examples = regression()
    with pytest.raises(ModelError, match=message):
        check_likelihood(likelihood, Fisher(), made, examples, "train")
