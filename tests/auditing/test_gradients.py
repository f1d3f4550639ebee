"""Captured gradients that are not autograd's are refused by the parameter's name and the reason; others are right."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.gradients import check_gradients
from relatif.pipeline.auditing.likelihoods import check_likelihood
from relatif.pipeline.auditing.outputs import check_rebuilt, check_repeatable, outputs_of
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.schemas.errors import ModelError, NumericalError
from tests.support import audited, layered
from tests.support.audited import Net
from tests.support.layers import LAYERS, inputs_for, randomized

torch.set_num_threads(1)

ROUNDING = 1e-9
"""Relative: float64 sums in another order."""

HOOKED = "a hook on the parameter changes its gradient"

WRONG: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "hook on a parameter": (audited.hooked_parameter, "first.weight", HOOKED),
    "head of zeros": (audited.hidden_by_zeros, "first.weight", HOOKED),
}

RIGHT: dict[str, Callable[[], nn.Module]] = {
    "plain": audited.good,
    "linear function": partial(Net, audited.used_twice),
    "decoder": partial(Net, audited.decoded),
    "einsum": partial(Net, audited.contracted),
    "cosine head": partial(Net, audited.cosine),
    "functional call": partial(Net, audited.called_with_others),
    "replaced forward": audited.replaced_forward,
    "output hook": audited.output_hook,
    "input hook": audited.input_hook,
    "biases alone": audited.biases_alone,
    "wrapped forward": audited.wrapped_forward,
    "input in place": partial(Net, audited.in_place),
    "straight through": partial(Net, audited.straight_through),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_gradient_that_the_layers_rule_misses_is_refused(name: str) -> None:
    build, parameter, reason = WRONG[name]
    with pytest.raises(ModelError) as caught:
        check_gradients(audited.subject_of(build), audited.examples(), "train")
    message = str(caught.value)
    assert message.startswith(f"expected the captured gradient of parameter {parameter} to be autograd's, found train ")
    assert reason in message
    assert "freeze it with requires_grad_(False), or leave it out by curvature.exclude = ['" in message


@pytest.mark.parametrize("name", WRONG)
def test_no_other_check_finds_it(name: str) -> None:
    """So that a run without this check would go on to wrong scores."""
    subject, examples = audited.subject_of(WRONG[name][0]), audited.examples()
    check_repeatable(subject.model, examples, "train")
    check_rebuilt(subject.model, WRONG[name][0], examples.inputs)
    outputs = outputs_of(subject.model, examples.inputs)
    check_likelihood(subject.likelihood, subject.fisher, outputs, examples, "train")
    forward_pass(subject.model, examples.inputs, subject.coverage)


def test_without_a_perturbation_a_head_of_zeros_hides_it() -> None:
    model = audited.hidden_by_zeros().double().eval()
    subject = CoveredModel(model, coverage(model), Categorical(audited.CLASSES), Fisher())
    check_gradients(subject, audited.examples(), "train")


def positions_first(model: Net, inputs: Tensor) -> Tensor:
    """Give the first layer as many positions as there are examples, and the positions in front."""
    parts = torch.stack([inputs * scale for scale in (1.0, 2.0, -1.0, 0.5)])
    return model.head(model.first(parts).tanh().mean(dim=0))


def test_positions_in_the_place_of_examples_are_refused_where_they_are_as_many() -> None:
    model = audited.built(partial(Net, positions_first))
    subject = CoveredModel(model, coverage(model), Categorical(audited.CLASSES), Fisher())
    with pytest.raises(ModelError, match="expected rows that layers see to be their examples'"):
        check_gradients(subject, audited.examples(), "train")


@pytest.mark.parametrize("name", RIGHT)
def test_what_hooks_and_wrappers_leave_right_is_captured_right(name: str) -> None:
    subject, examples = audited.subject_of(RIGHT[name]), audited.examples()
    before = examples.inputs.clone()
    found = check_gradients(subject, examples, "train")
    assert max(found.values()) < ROUNDING
    assert torch.equal(examples.inputs, before)
    forward = forward_pass(subject.model, examples.inputs, subject.coverage)
    at_outputs = subject.likelihood.gradient(forward.outputs.detach(), examples.targets)
    captured = {name: each.dense() for name, each in forward.gradients(forward.backward(at_outputs)).items()}
    for row in range(audited.ROWS):
        mine = subject.coverage.parameter_values({name: each[row] for name, each in captured.items()})
        for key, expected in by_hand(subject, examples, row).items():
            torch.testing.assert_close(mine[key], expected, rtol=ROUNDING, atol=ROUNDING)


def by_hand(subject: CoveredModel, examples: Examples, row: int) -> dict[str, Tensor]:
    """The gradient of one example's loss by a backward pass of its own."""
    subject.model.zero_grad()
    outputs = subject.model(examples.inputs[row : row + 1].clone())
    subject.likelihood.losses(outputs, examples.targets[row : row + 1]).sum().backward()
    trained = ((name, each) for name, each in subject.model.named_parameters() if each.requires_grad)
    return {name: parameter.grad for name, parameter in trained if parameter.grad is not None}


def infinite_branch(model: Net, inputs: Tensor) -> Tensor:
    """Leave out a branch whose gradient is not finite."""
    hidden = model.first(inputs)
    return model.head(torch.where(hidden > 1e9, (hidden * 0).sqrt(), hidden))


def test_a_gradient_that_is_not_finite_is_told_as_such() -> None:
    subject = audited.subject_of(partial(Net, infinite_branch))
    with pytest.raises(NumericalError, match=r"expected finite gradients, found autograd's of parameter first\.weight"):
        check_gradients(subject, audited.examples(), "train")


def test_only_covered_parameters_are_compared() -> None:
    subject = audited.subject_of(partial(Net, audited.used_twice))
    subject.model.first.requires_grad_(False)
    left = CoveredModel(subject.model, coverage(subject.model, ["head"]), subject.likelihood, subject.fisher)
    assert max(check_gradients(left, audited.examples(), "train").values()) < ROUNDING


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_passes(name: str) -> None:
    torch.manual_seed(0)
    build, shape = LAYERS[name]
    layer = randomized(build())
    inputs = inputs_for(layer, audited.ROWS, shape)
    with torch.no_grad():
        width = layer(inputs).flatten(1).shape[1]
    model = nn.Sequential(layer, nn.Flatten(), nn.Linear(width, audited.CLASSES).double()).eval()
    subject = CoveredModel(model, coverage(model), Categorical(audited.CLASSES), Fisher())
    found = check_gradients(subject, Examples(inputs, torch.tensor([0, 1, 2, 1]), 0), "train")
    assert max(found.values()) < ROUNDING


@pytest.mark.parametrize("name", layered.CASES)
def test_every_small_model_passes(name: str) -> None:
    subject, examples = layered.subject_and_examples(name, "exact", 4)
    assert max(check_gradients(subject, examples, "train").values()) < ROUNDING
