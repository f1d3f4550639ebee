"""Gradients captured in a forward pass against torch.func and a backward pass by hand; the model stays as it was."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass, term_output_gradients
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.forms import FactoredGradients
from relatif.pipeline.curvature.positions import UnsummedGradients
from tests.reference import mlp, problems, softmax
from tests.reference.softmax import Array
from tests.support.curvatures import examples_of, gradients_of, joined, subject_of

torch.set_num_threads(1)

TOLERANCE = 1e-10
"""Relative to the largest entry: float64, sums in another order."""

CLASSES = 3
FEATURES = 5
EXAMPLES = 12


class Positions(nn.Module):
    """A layer at every position of [N, T, F], one at every cell of [N, T, 2, H / 2], and one at a single position."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(FEATURES, 6)
        self.inner = nn.Linear(3, 2, bias=False)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.embed(inputs).tanh()
        cells = self.inner(hidden.unflatten(2, (2, 3))).tanh()
        return self.head(cells.flatten(2).mean(dim=1))


def double(*modules: nn.Module) -> nn.Module:
    model = nn.Sequential(*modules) if len(modules) > 1 else modules[0]
    generator = torch.Generator().manual_seed(11)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.6, generator=generator)
    return model.double()


MODELS: dict[str, Callable[[], nn.Module]] = {
    "softmax regression": lambda: double(nn.Flatten(), nn.Linear(FEATURES, CLASSES)),
    "tanh": lambda: double(nn.Linear(FEATURES, 4), nn.Tanh(), nn.Linear(4, CLASSES)),
    "relu": lambda: double(nn.Linear(FEATURES, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, CLASSES)),
    "relu in place": lambda: double(
        nn.Linear(FEATURES, 6), nn.ReLU(inplace=True), nn.Linear(6, 4), nn.ReLU(inplace=True), nn.Linear(4, CLASSES)
    ),
    "no bias": lambda: double(nn.Linear(FEATURES, 4, bias=False), nn.Tanh(), nn.Linear(4, CLASSES, bias=False)),
    "positions": lambda: double(Positions()),
}


def examples(name: str) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    shape = (EXAMPLES, 4, FEATURES) if name == "positions" else (EXAMPLES, FEATURES)
    inputs = torch.randn(shape, generator=generator, dtype=torch.float64)
    return inputs, torch.randint(0, CLASSES, (EXAMPLES,), generator=generator)


def by_torch_func(model: nn.Module, inputs: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return [N, O, I] per linear layer, the bias as last column."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(values: dict[str, Tensor], example: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, values, (example[None],))
        return nn.functional.cross_entropy(logits, label[None])

    of_parameters = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, inputs, labels)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    found = {}
    for name in layers:
        weight, bias = of_parameters[f"{name}.weight"], of_parameters.get(f"{name}.bias")
        found[name] = weight if bias is None else torch.cat([weight, bias[:, :, None]], dim=2)
    return found


def assert_close(found: Array, expected: Array) -> None:
    assert found.shape == expected.shape
    assert np.abs(expected).max() > 0
    np.testing.assert_allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE * np.abs(expected).max())


@pytest.mark.parametrize("name", MODELS)
def test_gradients_are_those_of_torch_func(name) -> None:
    model = MODELS[name]()
    inputs, labels = examples(name)

    found = gradients_of(model, inputs.numpy(), labels.numpy())

    expected = by_torch_func(model, inputs, labels)
    assert list(found) == list(expected)
    for layer, gradients in found.items():
        assert_close(gradients.dense().numpy(), expected[layer].numpy())


def test_the_form_follows_the_positions() -> None:
    inputs, labels = examples("positions")
    found = gradients_of(MODELS["positions"](), inputs.numpy(), labels.numpy())

    assert [type(found[name]) for name in ("embed", "inner", "head")] == [
        UnsummedGradients,
        UnsummedGradients,
        FactoredGradients,
    ]


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("widths", [(5, 3), (5, 4, 3), (5, 6, 4, 3)])
def test_gradients_are_those_derived_by_hand(activation, widths) -> None:
    problem = problems.random_mlp(1, widths=widths, activation=activation)
    passed = mlp.run_mlp(problem.layers, problem.train_inputs, activation=activation)
    expected = mlp.label_gradients(mlp.mlp_class_gradients(passed), problem.train_labels)

    model = mlp.torch_mlp(problem.layers, activation=activation)
    found = joined(gradients_of(model, problem.train_inputs, problem.train_labels))

    assert_close(found, expected)


def test_every_label_has_its_probability_and_gradient() -> None:
    problem = problems.random_softmax(2)
    model = mlp.torch_mlp([(problem.block[:, :-1], problem.block[:, -1])], activation="tanh")
    inputs = torch.from_numpy(problem.train_inputs)
    forward = forward_pass(model, inputs, coverage(model))
    probabilities = softmax.probabilities(problem.block, problem.train_inputs)
    deltas = softmax.class_output_gradients(probabilities)

    terms = list(term_output_gradients(forward, subject_of(model, len(problem.block)), examples_of(inputs)))

    assert len(terms) == len(problem.block)
    for label, (probability, gradients) in enumerate(terms):
        assert_close(probability.numpy(), probabilities[:, label])
        assert_close(gradients[0].numpy(), deltas[:, label])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODELS)
def test_the_model_is_left_as_it_was(name, training) -> None:
    model = MODELS[name]().train(training)
    inputs, labels = examples(name)
    held = inputs.clone()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    logits = model(inputs).detach()

    gradients_of(model, inputs.numpy(), labels.numpy())
    with torch.no_grad():
        assert forward_pass(model, inputs, coverage(model)).outputs.requires_grad
        assert not torch.is_grad_enabled()

    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(module.training is training for module in model.modules())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(inputs, held)
    assert torch.equal(model(inputs), logits)


def test_a_frozen_layer_is_left_out() -> None:
    model = MODELS["relu"]()
    inputs, labels = examples("relu")
    whole = gradients_of(model, inputs.numpy(), labels.numpy())
    model[0].requires_grad_(False)

    found = gradients_of(model, inputs.numpy(), labels.numpy())

    assert list(found) == ["2", "4"]
    for name, gradients in found.items():
        assert torch.equal(gradients.dense(), whole[name].dense())
