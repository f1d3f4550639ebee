"""Every layer rule against torch.func: per-example gradients by vmap of grad, for many shapes and batch sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from relatif.pipeline.curvature.rules import rule_for
from relatif.pipeline.curvature.sides import dense
from relatif.schemas.errors import ModelError
from tests.support.layers import LAYERS, inputs_for, randomized

torch.set_num_threads(1)

ROUNDING = 1e-12
"""Relative to the largest entry: float64 sums of at most a few hundred terms."""


def by_torch_func(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> dict[str, Tensor]:
    """Return gradients [N, *shape] of ``sum(output * output_gradient)`` by parameter."""

    def value(parameters: dict[str, Tensor], example: Tensor, weights: Tensor) -> Tensor:
        return (functional_call(layer, parameters, (example[None],))[0] * weights).sum()

    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    return vmap(grad(value), in_dims=(None, 0, 0))(parameters, inputs, output_gradients)


@pytest.mark.parametrize("count", [1, 2, 3, 16])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_torch_func(name: str, count: int) -> None:
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    layer = randomized(make())
    inputs = inputs_for(layer, count, shape)
    output_gradients = torch.randn_like(layer(inputs))
    rule = rule_for(layer)
    assert rule is not None

    factors = rule.factors(layer, rule.inputs(layer, inputs), output_gradients)
    blocks = [torch.einsum("nto,nti->noi", dense(use.outputs), dense(use.inputs)) for use in factors]

    assert [tuple(block.shape[1:]) for block in blocks] == rule.shapes(layer)
    found, expected = rule.parameters(layer, blocks), by_torch_func(layer, inputs, output_gradients)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=ROUNDING * float(value.abs().max()))


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(3), nn.BatchNorm1d(3, track_running_stats=False).eval()])
def test_batch_norm_by_the_batchs_own_statistics_is_refused(layer: nn.Module) -> None:
    rule = rule_for(layer)
    assert rule is not None
    with pytest.raises(ModelError, match="expected BatchNorm1d in evaluation mode with running statistics"):
        rule.inputs(layer, torch.zeros(4, 3))


class Doubled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Renamed(nn.Linear):
    """A subclass that computes the same."""


@pytest.mark.parametrize(
    "layer",
    [nn.LSTM(2, 3), nn.Conv3d(1, 1, 1), nn.ConvTranspose2d(1, 1, 2), Doubled(2, 3), nn.Embedding(3, 2, max_norm=1.0)],
)
def test_what_no_rule_covers_has_none(layer: nn.Module) -> None:
    assert rule_for(layer) is None


def test_a_subclass_that_keeps_forward_is_covered() -> None:
    assert rule_for(Renamed(2, 3)) is not None
