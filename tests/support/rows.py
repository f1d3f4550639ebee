"""Per-example gradients by torch.func, one example at a time, and captured ones, by parameter."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import Coverage, coverage
from relatif.pipeline.inputs import Inputs, count, rows

EXACT = 1e-10
"""Relative to the largest entry of a parameter's gradients: float64."""


ROUNDING = 1e-15
"""Relative to the largest entry of all: a gradient that cancels, such as that of a bias of keys, is rounding alone."""


class _Whole(nn.Module):
    """A model, called as the pipeline calls it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Inputs) -> Tensor:
        return run_model(self.model, inputs)


def by_torch_func(model: nn.Module, inputs: Inputs, weights: Tensor) -> dict[str, Tensor]:
    """Return gradients [N, *shape] of ``sum(outputs * weights)`` of each example by the model's parameters."""
    whole = _Whole(model)
    parameters = {f"model.{name}": each.detach() for name, each in model.named_parameters()}

    def value(values: Mapping[str, Tensor], example: Inputs, weight: Tensor) -> Tensor:
        return (functional_call(whole, dict(values), (example,)) * weight).sum()

    found: dict[str, list[Tensor]] = {}
    for row in range(count(inputs)):
        some = slice(row, row + 1)
        for name, gradient in grad(value)(parameters, rows(inputs, some), weights[some]).items():
            found.setdefault(name.removeprefix("model."), []).append(gradient)
    return {name: torch.stack(gradients) for name, gradients in found.items()}


def captured(model: nn.Module, inputs: Inputs, covered: Coverage, weights: Tensor) -> dict[str, Tensor]:
    """Return the same of the covered parameters from a recorded pass."""
    forward = forward_pass(model, inputs, covered)
    gradients = forward.gradients(forward.backward(weights))
    return covered.parameter_values({name: gradient.dense() for name, gradient in gradients.items()})


def check_rows(model: nn.Module, inputs: Inputs, exclude: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Compare both for every covered parameter of a model in float64 and evaluation mode; return what was captured."""
    covered = coverage(model, None, exclude)
    outputs = run_model(model, inputs).detach()
    weights = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(3), dtype=outputs.dtype)
    found, expected = captured(model, inputs, covered, weights), by_torch_func(model, inputs, weights)
    assert found.keys() == {each.name for each in covered.parameters if each.covered}
    whole = max(float(each.abs().max()) for each in expected.values())
    for name, value in found.items():
        apart, largest = float((value - expected[name]).abs().max()), float(expected[name].abs().max())
        assert apart <= EXACT * largest + ROUNDING * whole, (name, apart, largest)
    assert all(parameter.grad is None for parameter in model.parameters())
    return found


def ready(model: nn.Module, seed: int = 0) -> nn.Module:
    """Return a model with random numbers in place of its first ones, in float64 and evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.3)
    return model
