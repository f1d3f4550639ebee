"""Labels as a likelihood sees them, against softmax in NumPy and closed forms; the Fisher's terms and drawn labels."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood import Categorical, cross_entropy, differentiated
from relatif.schemas.errors import ConfigurationError, ModelError
from tests.reference import softmax

torch.set_num_threads(1)

ROWS, CLASSES = 40, 5
EXACT = 1e-13
"""Absolute, of probabilities and their differences in float64."""

LIKELIHOOD = Categorical(CLASSES)


def problem() -> tuple[Tensor, Tensor]:
    """Return outputs [N, C] and labels [N]."""
    generator = torch.Generator().manual_seed(2)
    outputs = 3 * torch.randn(ROWS, CLASSES, generator=generator, dtype=torch.float64)
    return outputs, torch.randint(0, CLASSES, (ROWS,), generator=generator)


def probabilities(outputs: Tensor) -> Tensor:
    return torch.from_numpy(np.exp(softmax.log_probabilities_of(outputs.numpy())))


SURE_OF = (1e-3, 1e-8, 1e-15, 1e-17, 1e-40, 1e-120)
"""Probability of all labels but the most probable one."""
DIGITS = 1e-13
"""Relative, of what is tiny: a few roundings of float64, and the exponential of logits of a few hundred."""


def sure(others: float) -> tuple[Tensor, dict[str, list[Decimal]]]:
    """Return outputs [1, C] that leave ``others`` to the labels but the first, and losses and probabilities in full."""
    outputs = torch.tensor([[0.5, -0.25, 1.0, -0.5, 0.125]], dtype=torch.float64)
    outputs[0, 0] -= math.log(others)
    logits = [Decimal(float(value)) for value in outputs[0]]
    with localcontext() as context:
        context.prec = 400
        exponentials = [logit.exp() for logit in logits]
        total = sum(exponentials)
        probabilities = [value / total for value in exponentials]
        return outputs, {"probabilities": probabilities, "losses": [-value.ln() for value in probabilities]}


def exactly_minus_one(values: list[Decimal], label: int) -> list[float]:
    with localcontext() as context:
        context.prec = 400
        return [float(value - (place == label)) for place, value in enumerate(values)]


def by_softmax(outputs: Tensor, labels: Tensor) -> Tensor:
    """The same loss as cross_entropy, as a user would write it."""
    return -outputs.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]


@pytest.mark.parametrize("loss", [cross_entropy, by_softmax])
@pytest.mark.parametrize("others", SURE_OF)
def test_gradients_and_losses_of_almost_certain_labels_keep_their_digits(loss, others: float) -> None:
    outputs, exact = sure(others)
    likelihood = Categorical(CLASSES, loss)
    for label in range(CLASSES):
        found = likelihood.gradient(outputs, torch.tensor([label]))[0]
        expected = exactly_minus_one(exact["probabilities"], label)
        np.testing.assert_allclose(found.numpy(), expected, rtol=DIGITS)
    label = torch.tensor([0])
    columns = likelihood.columns(outputs, label, label, likelihood.losses(outputs, label))
    np.testing.assert_allclose(columns["loss"].numpy(), float(exact["losses"][0]), rtol=DIGITS)


def test_autograd_alone_loses_them() -> None:
    outputs, exact = sure(1e-15)
    found = differentiated(cross_entropy, outputs, torch.tensor([0]))
    expected = exactly_minus_one(exact["probabilities"], 0)
    assert abs(float(found[0, 0]) / expected[0] - 1) > 0.01


def floored(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss that is flat where a label is almost certain, and almost normalized."""
    return -outputs.softmax(dim=1).clamp(max=1 - 1e-9).gather(1, labels[:, None])[:, 0].log()


def test_a_loss_that_is_flat_there_keeps_its_own_gradient() -> None:
    outputs, _ = sure(1e-12)
    label = torch.tensor([0])
    likelihood = Categorical(CLASSES, floored)
    assert likelihood.gradient(outputs, label).tolist() == [[0.0] * CLASSES]
    losses = likelihood.losses(outputs, label)
    assert torch.equal(likelihood.columns(outputs, label, label, losses)["loss"], losses)


def test_a_label_without_any_probability_is_left_out() -> None:
    outputs = torch.tensor([[0.0, -800.0, -torch.inf, -900.0, -1000.0]], dtype=torch.float64)
    for loss in (cross_entropy, by_softmax):
        found = Categorical(CLASSES, loss).gradient(outputs, torch.tensor([0]))
        assert found.tolist() == [[0.0] * CLASSES]


def of_one_output(outputs: Tensor, labels: Tensor) -> Tensor:
    """Two classes by one output, which is positive where the second is the more probable."""
    logits = outputs.reshape(-1)
    return nn.functional.softplus(torch.where(labels == 1, -logits, logits))


def prior(outputs: Tensor, labels: Tensor) -> Tensor:
    """The first label is favoured beside what the outputs say."""
    return cross_entropy(outputs + torch.tensor([2.0, 0, 0, 0, 0]).to(outputs), labels)


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_predictions_are_the_most_probable_labels_of_any_loss(shape: tuple[int, ...]) -> None:
    logits = torch.tensor([0.3, -2.0, 5.0, -0.1], dtype=torch.float64).reshape(shape)
    likelihood = Categorical(2, of_one_output)
    assert likelihood.explained(logits, torch.zeros(4).long(), "predicted").tolist() == [1, 0, 1, 0]
    assert likelihood.columns(logits, *[torch.zeros(4).long()] * 2, torch.ones(4))["predicted_label"].sum() == 2
    outputs, labels = problem()
    favoured = outputs + torch.tensor([2.0, 0, 0, 0, 0])
    found = Categorical(CLASSES, prior).explained(outputs, labels, "predicted")
    assert found.tolist() == favoured.argmax(dim=1).tolist() != outputs.argmax(dim=1).tolist()


def test_softmax_of_outputs_that_are_no_scores_of_labels_is_refused() -> None:
    with pytest.raises(ModelError, match=r"a score for each label, \[N, C\], found shape \[3\]"):
        LIKELIHOOD.explained(torch.zeros(3), torch.zeros(3).long(), "predicted")


def tempered(outputs: Tensor, labels: Tensor) -> Tensor:
    """A loss of the user's own: the outputs count half."""
    return cross_entropy(outputs / 2, labels)


def assert_close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=EXACT)


def test_losses_are_negative_log_likelihoods() -> None:
    outputs, labels = problem()
    expected = -softmax.log_probabilities_of(outputs.numpy())[np.arange(ROWS), labels.numpy()]
    np.testing.assert_allclose(LIKELIHOOD.losses(outputs, labels).numpy(), expected, rtol=EXACT)


@pytest.mark.parametrize("recorded", [True, False])
def test_the_gradient_at_the_outputs_is_probabilities_minus_the_label(recorded: bool) -> None:
    outputs, labels = problem()
    outputs.requires_grad_()
    with torch.set_grad_enabled(recorded):
        found = LIKELIHOOD.gradient(outputs, labels)
    assert not found.requires_grad
    assert outputs.grad is None
    assert_close(found, probabilities(outputs.detach()) - nn.functional.one_hot(labels, CLASSES))


def test_a_loss_of_ones_own_is_differentiated() -> None:
    outputs, labels = problem()
    likelihood = Categorical(CLASSES, tempered)
    expected = (probabilities(outputs / 2) - nn.functional.one_hot(labels, CLASSES)) / 2
    assert_close(likelihood.gradient(outputs, labels), expected)
    assert_close(torch.stack([w for _, w in likelihood.expectation(outputs)], dim=1), probabilities(outputs / 2))


def test_the_expectation_has_every_label_with_its_probability() -> None:
    outputs, _ = problem()
    terms = list(LIKELIHOOD.expectation(outputs))
    assert [targets.tolist() for targets, _ in terms] == [[label] * ROWS for label in range(CLASSES)]
    weights = torch.stack([weights for _, weights in terms], dim=1)
    assert_close(weights, probabilities(outputs))
    assert_close(weights.sum(dim=1), torch.ones(ROWS, dtype=torch.float64))


def test_the_expectations_second_moment_is_the_covariance_of_the_label() -> None:
    outputs, _ = problem()
    found = torch.zeros(ROWS, CLASSES, CLASSES, dtype=torch.float64)
    for targets, weights in LIKELIHOOD.expectation(outputs):
        gradient = LIKELIHOOD.gradient(outputs, targets)
        found += torch.einsum("n,ni,nj->nij", weights, gradient, gradient)
    p = probabilities(outputs)
    assert_close(found, torch.diag_embed(p) - p[:, :, None] * p[:, None, :])


def test_drawn_labels_have_the_probabilities_as_frequencies() -> None:
    count = 40_000
    outputs = torch.tensor([[0.0, 1.0, -1.0]], dtype=torch.float64)
    drawn = Categorical(3).sample(outputs.expand(count, 3), torch.rand(count, generator=torch.Generator()).double())
    shares = drawn.bincount(minlength=3) / count
    # Four standard deviations of a share are at most 4 * 0.5 / sqrt(count).
    assert float((shares - probabilities(outputs)[0]).abs().max()) < 2 / count**0.5


def test_a_drawn_label_is_the_first_whose_cumulative_probability_exceeds_the_number() -> None:
    outputs, _ = problem()
    numbers = torch.rand(ROWS, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    cumulative = probabilities(outputs).cumsum(dim=1).numpy()
    expected = [int(np.argmax(row > number)) for row, number in zip(cumulative, numbers.numpy(), strict=True)]
    drawn = LIKELIHOOD.sample(outputs, numbers)
    assert drawn.dtype == torch.int64
    assert drawn.tolist() == expected
    assert len(set(expected)) == CLASSES, "every label must be drawn"
    assert torch.equal(LIKELIHOOD.sample(outputs, numbers), drawn)
    assert torch.equal(LIKELIHOOD.sample(outputs[13:20], numbers[13:20]), drawn[13:20])


@pytest.mark.parametrize(("number", "label"), [(0.0, 1), (1 - 2**-53, 2)])
def test_a_label_without_probability_is_never_drawn(number: float, label: int) -> None:
    outputs = torch.tensor([[-1000.0, 0.0, 0.0, -1000.0]], dtype=torch.float64)
    assert Categorical(4).sample(outputs, torch.tensor([number], dtype=torch.float64)).tolist() == [label]


def test_explained_are_the_datas_labels_the_models_or_one_class() -> None:
    outputs, labels = problem()
    predicted = [int(np.argmax(row)) for row in outputs.numpy()]
    assert LIKELIHOOD.explained(outputs, labels, "true").tolist() == labels.tolist() != predicted
    assert LIKELIHOOD.explained(outputs, labels, "predicted").tolist() == predicted
    assert LIKELIHOOD.explained(outputs, labels, 3).tolist() == [3] * ROWS
    assert LIKELIHOOD.explained(outputs, labels, 0).dtype == torch.int64


def test_columns_say_labels_and_the_probability_of_the_explained_one() -> None:
    outputs, labels = problem()
    explained = (labels + 1) % CLASSES
    found = LIKELIHOOD.columns(outputs, labels, explained, LIKELIHOOD.losses(outputs, explained))
    assert list(found) == ["label", "predicted_label", "explained_label", "probability", "loss"]
    assert found["label"].tolist() == labels.tolist()
    assert found["predicted_label"].tolist() == [int(np.argmax(row)) for row in outputs.numpy()]
    assert found["explained_label"].tolist() == explained.tolist()
    assert_close(found["probability"], probabilities(outputs)[torch.arange(ROWS), explained])
    assert_close(found["loss"], -probabilities(outputs)[torch.arange(ROWS), explained].log())


def test_data_must_have_as_many_classes() -> None:
    assert LIKELIHOOD.expected_of_data({5}) is None
    assert LIKELIHOOD.expected_of_data((10, 5)) is None
    assert LIKELIHOOD.expected_of_data({4}) == LIKELIHOOD.expected_of_data(()) == "data of 5 classes"


@pytest.mark.parametrize("choice", ["true", "predicted", 0, 3])
def test_a_choice_that_task_and_data_have_is_accepted(choice: str | int) -> None:
    LIKELIHOOD.check_choice(choice, 4)


@pytest.mark.parametrize(("choice", "classes", "last"), [(4, 4, 3), (5, 5, 4), (5, 10, 4)])
def test_a_class_that_the_task_or_the_data_lacks_is_refused(choice: int, classes: int, last: int) -> None:
    message = rf"a class from 0 to {last}, found {choice}; name one of the {last + 1} classes of task and data"
    with pytest.raises(ConfigurationError, match=message):
        LIKELIHOOD.check_choice(choice, classes)


@pytest.mark.parametrize(
    ("loss", "shape"),
    [(nn.functional.cross_entropy, r"\[\]"), (lambda outputs, labels: outputs, rf"\[{ROWS}, {CLASSES}\]")],
)
def test_a_loss_that_is_not_per_example_is_refused(loss: object, shape: str) -> None:
    outputs, labels = problem()
    likelihood = Categorical(CLASSES, loss)  # type: ignore[arg-type]
    message = rf"expected a loss for each of {ROWS} examples, found shape {shape}; .*reduction='none'"
    for ask in (likelihood.losses, likelihood.gradient):
        with pytest.raises(ModelError, match=message):
            ask(outputs, labels)
    with pytest.raises(ModelError, match=message):
        next(likelihood.expectation(outputs))


def test_cross_entropy_is_exact_where_probabilities_underflow() -> None:
    assert cross_entropy(torch.tensor([[1000.0, 0.0]]), torch.tensor([1])).item() == 1000
