"""Layers of every covered type and in many shapes, as what makes one and the shape of one example's input."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
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
    "conv3d": (lambda: nn.Conv3d(2, 4, 2, stride=(1, 2, 1), padding=1, groups=2), (2, 3, 4, 3)),
    "conv transpose 1d": (lambda: nn.ConvTranspose1d(2, 4, 3, stride=2, padding=1, output_padding=1), (2, 4)),
    "conv transpose 1d dilated": (lambda: nn.ConvTranspose1d(2, 2, 2, dilation=3, output_padding=2), (2, 4)),
    "conv transpose 2d": (lambda: nn.ConvTranspose2d(4, 2, (2, 3), stride=(2, 1), groups=2, bias=False), (4, 3, 2)),
    "embedding bag": (lambda: nn.EmbeddingBag(6, 3), (4,)),
    "embedding bag summed": (lambda: nn.EmbeddingBag(6, 3, mode="sum", padding_idx=1), (4,)),
    "embedding bag averaged with padding": (lambda: nn.EmbeddingBag(6, 3, padding_idx=1), (5,)),
    "rms norm": (lambda: nn.RMSNorm(5), (3, 5)),
    "batch norm 3d": (lambda: nn.BatchNorm3d(3), (3, 2, 2, 2)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(3, affine=True), (3, 6)),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(3, affine=True, track_running_stats=True), (3, 4, 2)),
    "conv1d same": (lambda: nn.Conv1d(2, 2, 4, padding="same"), (2, 9)),
}


def randomized(layer: nn.Module) -> nn.Module:
    """Give norms scales and statistics that are not their neutral start, and everything float64."""
    layer = layer.double().eval()
    for name, value in layer.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.rand_like(value) + 0.3 if "var" in name else torch.randn_like(value))
    return layer


def inputs_for(layer: nn.Module, count: int, shape: tuple[int, ...]) -> Tensor:
    """Return random inputs [count, *shape]: rows for an embedding, float64 for every other layer."""
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
        return torch.randint(0, layer.num_embeddings, (count, *shape))
    return torch.randn(count, *shape, dtype=torch.float64)
