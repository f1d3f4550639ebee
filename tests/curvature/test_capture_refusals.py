"""What a forward pass refuses: models that no rule covers, wirings that would give wrong gradients, broken values."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from relatif.pipeline.curvature.capture import forward_pass, raise_not_finite
from relatif.pipeline.curvature.coverage import coverage
from relatif.schemas.errors import ModelError, NumericalError, TaskError
from tests.support.curvatures import gradients_of, joined
from tests.support.faulty import Root

torch.set_num_threads(1)

CLASSES = 3
FEATURES = 5
EXAMPLES = 12


def double(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    return model.double()


def examples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn((EXAMPLES, FEATURES), generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)


class Broken(nn.Module):
    """Two layers that a test wires wrongly."""

    def __init__(self, wire: Callable[["Broken", Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
        self.wire = wire

    def forward(self, inputs: Tensor) -> Tensor:
        return self.wire(self, inputs)


def changed_in_place(model: Broken, inputs: Tensor) -> Tensor:
    hidden = model.first(inputs).tanh()
    logits = model.second(hidden)
    hidden.mul_(2)
    return logits


def without_graph(model: Broken, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        hidden = model.first(inputs)
    return model.second(hidden)


def dropped(model: Broken, inputs: Tensor) -> Tensor:
    model.first(inputs)
    return model.second(inputs)


def lost(model: Broken, inputs: Tensor) -> Tensor:
    return model.second(model.first(torch.cat([inputs, inputs[:1]]))[: len(inputs)])


def by_numpy(model: Broken, inputs: Tensor) -> Tensor:
    return torch.from_numpy(model.second(model.first(inputs)).detach().numpy())


def checkpointed(model: Broken, inputs: Tensor) -> Tensor:
    return model.second(checkpoint(torch.tanh, model.first(inputs), use_reentrant=True))


def freezing(model: Broken, inputs: Tensor) -> Tensor:
    outputs = model.second(model.first(inputs))
    model.first.weight.requires_grad_(False)
    return outputs


WIRINGS = {
    "checkpointed": (
        checkpointed,
        r"backward pass of the model to return gradients, found RuntimeError: .*reentrant",
    ),
    "numpy": (by_numpy, "outputs that depend on the covered parameters, found them cut from those"),
    "freezing": (freezing, r"stay trainable in a forward pass, found first\.weight frozen by it"),
    "unused": (lambda m, x: m.second(x), r"every trainable layer to be used, found \['first'\]"),
    "outputs dropped": (dropped, r"depend on every trainable layer, found \['first'\]"),
    "called without graph": (without_graph, "layer 'first' to be differentiated, found it called under no_grad"),
    "examples lost": (lost, r"layer of first to have the 12 examples as first axis, found shape \[13, 1, 5\]"),
    "input changed in place": (changed_in_place, r"found those of \['second'\] changed in place"),
}


@pytest.mark.parametrize("case", WIRINGS)
def test_a_model_that_is_wired_otherwise_is_refused(case) -> None:
    wire, message = WIRINGS[case]
    model = double(Broken(wire))
    inputs, labels = examples()

    with pytest.raises((ModelError, TaskError), match=message):
        gradients_of(model, inputs.numpy(), labels.numpy())
    assert not any(module._forward_hooks for module in model.modules())


def test_a_layer_may_be_called_by_keyword() -> None:
    inputs, labels = examples()
    by_keyword = double(Broken(lambda m, x: m.second(input=m.first(input=x).tanh())))
    by_place = double(Broken(lambda m, x: m.second(m.first(x).tanh())))

    found = [joined(gradients_of(model, inputs.numpy(), labels.numpy())) for model in (by_keyword, by_place)]

    np.testing.assert_array_equal(*found)


def test_a_gradient_that_is_not_finite_is_named() -> None:
    model = double(nn.Sequential(nn.Linear(FEATURES, 4, bias=False), Root(), nn.Linear(4, CLASSES)))
    inputs, labels = examples()
    inputs[7] = 0

    gradients = gradients_of(model, inputs.numpy(), labels.numpy())

    with pytest.raises(NumericalError, match="found layer '0' at train example 1007 not to be; look at"):
        raise_not_finite(gradients, first_index=1000)
    with pytest.raises(NumericalError, match=r"at test example 7 "):
        raise_not_finite(gradients, first_index=0, split="test")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_outputs_that_are_not_finite_are_refused(value) -> None:
    inputs, _ = examples()
    inputs[4, 0] = value

    model = nn.Linear(FEATURES, CLASSES).double()

    with pytest.raises(NumericalError, match="outputs to be finite, found row 4"):
        forward_pass(model, inputs, coverage(model))


def test_norms_that_are_too_large_are_refused() -> None:
    with pytest.raises(NumericalError, match="found them too large at test example 5 or one of those that follow"):
        raise_not_finite({}, first_index=5, split="test")
