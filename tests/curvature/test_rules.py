"""Every layer rule against torch.func: per-example gradients by vmap of grad, for many shapes and batch sizes."""

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from pipeline.curvature.rules import rule_for

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
    "conv1d same": (lambda: nn.Conv1d(2, 2, 4, padding="same"), (2, 9)),
}


def by_torch_func(layer: nn.Module, inputs: Tensor, output_gradients: Tensor) -> Tensor:
    """Return gradients [N, all outputs, I] of ``sum(output * output_gradient)``, the bias as last column."""

    def value(parameters: dict[str, Tensor], example: Tensor, weights: Tensor) -> Tensor:
        return (functional_call(layer, parameters, (example[None],))[0] * weights).sum()

    found = vmap(grad(value), in_dims=(None, 0, 0))(dict(layer.named_parameters()), inputs, output_gradients)
    weight = found["weight"].flatten(2)
    return torch.cat([weight, found["bias"][:, :, None]], dim=2) if "bias" in found else weight


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_gradients_equal_torch_func(name: str, count: int) -> None:
    torch.manual_seed(len(name))
    make, shape = LAYERS[name]
    layer = make().double()
    inputs = torch.randn(count, *shape, dtype=torch.float64)
    output_gradients = torch.randn_like(layer(inputs))
    rule = rule_for(layer)
    assert rule is not None

    seen, sent = rule.inputs(layer, inputs), rule.output_gradients(layer, output_gradients)
    blocks = [torch.einsum("nto,nti->noi", delta, a) for delta, a in zip(sent, seen, strict=True)]

    assert len(blocks) == rule.blocks(layer)
    assert all(block.shape[1:] == rule.shape(layer) for block in blocks)
    expected = by_torch_func(layer, inputs, output_gradients)
    torch.testing.assert_close(torch.cat(blocks, dim=1), expected, rtol=0, atol=ROUNDING * float(expected.abs().max()))


class Doubled(nn.Linear):
    """A subclass that computes something else."""

    def forward(self, inputs: Tensor) -> Tensor:
        return 2 * super().forward(inputs)


class Renamed(nn.Linear):
    """A subclass that computes the same."""


@pytest.mark.parametrize("layer", [nn.LSTM(2, 3), nn.Conv3d(1, 1, 1), nn.ConvTranspose2d(1, 1, 2), Doubled(2, 3)])
def test_what_no_rule_covers_has_none(layer: nn.Module) -> None:
    assert rule_for(layer) is None


def test_a_subclass_that_keeps_forward_is_covered() -> None:
    assert rule_for(Renamed(2, 3)) is not None
