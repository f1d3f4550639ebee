"""Every layer rule against torch.func: per-example gradients by vmap of grad, for many shapes and batch sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from pipeline.curvature.rules import rule_for
from schemas.errors import ModelError

torch.set_num_threads(1)

ROUNDING = 1e-12
"""Relative to the largest entry: float64 sums of at most a few hundred terms."""

LAYERS = {
    "linear": (lambda: nn.Linear(5, 3), (5,)),
    "linear without bias": (lambda: nn.Linear(5, 3, bias=False), (5,)),
    "linear at positions": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "conv2d": (lambda: nn.Conv2d(2, 3, 3), (2, 5, 6)),
    "conv2d strided, padded": (lambda: nn.Conv2d(2, 3, 3, stride=2, padding=1), (2, 7, 6)),
    "conv2d uneven": (lambda: nn.Conv2d(2, 3, (3, 2), stride=(1, 2), padding=(0, 1), dilation=(2, 1)), (2, 8, 5)),
    "conv2d same, dilated, even kernel": (lambda: nn.Conv2d(2, 3, (2, 4), padding="same", dilation=2), (2, 6, 7)),
    "conv2d valid": (lambda: nn.Conv2d(2, 3, 2, padding="valid"), (2, 4, 4)),
    "conv2d grouped": (lambda: nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 5, 5)),
    "conv2d depthwise, without bias": (lambda: nn.Conv2d(3, 3, 3, groups=3, bias=False), (3, 5, 5)),
    "conv2d reflected": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 5, 4)),
    "conv2d circular": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="circular"), (2, 5, 4)),
    "conv2d replicated": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="replicate"), (2, 5, 4)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (3, 9)),
    "conv1d strided, dilated": (lambda: nn.Conv1d(3, 4, 4, stride=3, dilation=2), (3, 20)),
    "conv1d grouped, padded": (lambda: nn.Conv1d(4, 4, 3, groups=2, padding=2), (4, 8)),
    "embedding": (lambda: nn.Embedding(6, 3), (4,)),
    "embedding with padding": (lambda: nn.Embedding(6, 3, padding_idx=2), (2, 5)),
    "layer norm": (lambda: nn.LayerNorm(5), (5,)),
    "layer norm of two axes, without bias": (lambda: nn.LayerNorm((2, 3), bias=False), (4, 2, 3)),
    "group norm": (lambda: nn.GroupNorm(2, 4), (4, 3, 2)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(3), (3,)),
    "batch norm 1d at positions": (lambda: nn.BatchNorm1d(3), (3, 6)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(3), (3, 4, 2)),
    "conv1d same": (lambda: nn.Conv1d(2, 2, 4, padding="same"), (2, 9)),
}


def randomized(layer: nn.Module) -> nn.Module:
    """Give norms scales and statistics that are not their neutral start, and everything float64."""
    layer = layer.double().eval()
    for name, value in layer.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.3 if "var" in name else torch.randn_like(value))
    return layer


def by_torch_func(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> dict[str, Tensor]:
    """Return gradients [N, *shape] of ``sum(output * output_gradient)`` by parameter."""

    def value(parameters: dict[str, Tensor], example: Tensor, weights: Tensor) -> Tensor:
        return (functional_call(layer, parameters, (example[None],))[0] * weights).sum()

    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}
    return vmap(grad(value), in_dims=(None, 0, 0))(parameters, inputs, output_gradients)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_torch_func(name: str, count: int) -> None:
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    layer = randomized(make())
    inputs = torch.randn(count, *shape, dtype=torch.float64)
    if isinstance(layer, nn.Embedding):
        inputs = torch.randint(0, layer.num_embeddings, (count, *shape))
    output_gradients = torch.randn_like(layer(inputs))
    rule = rule_for(layer)
    assert rule is not None

    factors = rule.factors(layer, rule.inputs(layer, inputs), output_gradients)
    blocks = [torch.einsum("nto,nti->noi", delta, a) for delta, a in factors]

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
