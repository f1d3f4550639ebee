"""Small models of two layers that tests wire wrongly, and what an audit needs to try them.

N = 4 examples of 6 numbers, 3 classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from relatif.pipeline.auditing.lending import perturb
from relatif.pipeline.auditing.outputs import built_at
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Categorical, PerExampleLoss, cross_entropy
from relatif.pipeline.curvature.model import CoveredModel

ROWS, FEATURES, CLASSES = 4, 6, 3

Wire = Callable[["Net", Tensor], Tensor]


class Net(nn.Module):
    """Two linear layers, and a forward pass that is given; further parts by name."""

    def __init__(self, wire: Wire, **parts: nn.Module) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(FEATURES, FEATURES), nn.Linear(FEATURES, CLASSES)
        for name, part in parts.items():
            self.add_module(name, part)
        self.wire = wire

    def forward(self, inputs: Tensor) -> Tensor:
        return self.wire(self, inputs)


def plain(model: Net, inputs: Tensor) -> Tensor:
    """Wire both layers as they are meant."""
    return model.head(torch.tanh(model.first(inputs)))


def good() -> Net:
    """Return a model in which nothing is wrong."""
    return Net(plain)


def built(build: Callable[[], nn.Module]) -> nn.Module:
    """Return a model in float64 and evaluation mode, its parameters perturbed."""
    model = built_at(build, 0)
    perturb(model, 0)
    return model.double().eval()


def subject_of(build: Callable[[], nn.Module], loss: PerExampleLoss = cross_entropy) -> CoveredModel:
    """Return a built model with all its trainable layers."""
    model = built(build)
    return CoveredModel(model, coverage(model), Categorical(CLASSES, loss), Fisher())


def examples() -> Examples:
    """Return the examples, from row 20 on."""
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(ROWS, FEATURES, generator=generator, dtype=torch.float64)
    return Examples(inputs, torch.tensor([0, 1, 2, 1]), 20)


def used_twice(model: Net, inputs: Tensor) -> Tensor:
    """Use the first layer's parameters by a function beside its call."""
    again = functional.linear(2 * inputs, model.first.weight, model.first.bias)
    return model.head(torch.tanh(model.first(inputs)) + torch.sin(again))


def decoded(model: Net, inputs: Tensor) -> Tensor:
    """Multiply by the first layer's own weight on the way back."""
    return model.head(torch.tanh(model.first(inputs)) @ model.first.weight)


def contracted(model: Net, inputs: Tensor) -> Tensor:
    """Use the first layer's weight by einsum."""
    return model.head(model.first(inputs).tanh() + torch.einsum("oi,ni->no", model.first.weight, inputs).sin())


def distant(model: Net, inputs: Tensor) -> Tensor:
    """Take distances from the first layer's weights in a function that mixes examples."""
    return plain(model, inputs) + torch.cdist(model.first.weight, inputs).T[:, :CLASSES]


def cosine(model: Net, inputs: Tensor) -> Tensor:
    """Divide by the norm of the head's weights."""
    return 4 * model.head(torch.tanh(model.first(inputs))) / model.head.weight.norm(dim=1)


def called_with_others(model: Net, inputs: Tensor) -> Tensor:
    """Call the first layer with another weight than its own, made of it."""
    other = {"weight": 2 * model.first.weight, "bias": model.first.bias}
    return model.head(torch.func.functional_call(model.first, other, (inputs,)).tanh())


def replaced_forward() -> Net:
    """Replace the forward of one layer, not of its class."""
    model = Net(plain)
    layer = model.first
    layer.forward = lambda inputs: functional.linear(inputs, 2 * layer.weight, layer.bias)  # type: ignore[method-assign]
    return model


def hooked_parameter() -> Net:
    """Let a hook shrink the gradient of a weight."""
    model = Net(plain)
    model.first.weight.register_hook(lambda gradient: gradient / 10)
    return model


def hidden_by_zeros() -> Net:
    """Begin with a head of zeros, behind which no gradient shows what a hook on the first layer's weight does."""
    model = hooked_parameter()
    nn.init.zeros_(model.head.weight)
    return model


def output_hook() -> Net:
    """Let a hook of the model's own replace the first layer's output."""
    model = Net(lambda model, inputs: model.head(model.first(inputs)))
    model.first.register_forward_hook(lambda _module, _inputs, output: torch.tanh(3 * output))
    return model


def input_hook() -> Net:
    """Let a hook of the model's own replace the first layer's input."""
    model = Net(plain)
    model.first.register_forward_pre_hook(lambda _module, inputs: (torch.tanh(3 * inputs[0]),))
    return model


def wrapped_forward() -> Net:
    """Wrap the forward of one layer without changing what it computes, as libraries of hooks do."""
    model = Net(plain)
    inner = model.first.forward
    model.first.forward = lambda inputs: inner(1 * inputs)  # type: ignore[method-assign]
    return model


def biases_alone() -> Net:
    """Train the biases alone, the first one beside a weight that a parametrization makes."""
    model = Net(plain)
    parametrizations.weight_norm(model.first)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("bias"))
    return model


def in_place(model: Net, inputs: Tensor) -> Tensor:
    """Normalize the input in place."""
    return plain(model, inputs.sub_(0.5).mul_(2))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(context: object, inputs: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        context.save_for_backward(inputs, weight)  # type: ignore[attr-defined]
        return inputs @ weight.T

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        inputs, weight = context.saved_tensors  # type: ignore[attr-defined]
        return gradient @ weight, gradient.T @ inputs


def beside(model: Net, inputs: Tensor) -> Tensor:
    """Use the first layer's weight by a function of one's own beside its call."""
    return model.head(torch.tanh(model.first(inputs)) + torch.sin(_Product.apply(inputs, model.first.weight)))


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(_context: object, inputs: Tensor) -> Tensor:  # type: ignore[override]
        return inputs.sign()

    @staticmethod
    def backward(_context: object, gradient: Tensor) -> Tensor:  # type: ignore[override]
        return gradient


def straight_through(model: Net, inputs: Tensor) -> Tensor:
    """Round hidden values to signs, and pass gradients on as if they were not."""
    return model.head(_Sign.apply(model.first(inputs)))
