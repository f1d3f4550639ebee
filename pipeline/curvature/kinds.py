"""What blocks the parameters of a module make, by its type. A parameter of any other module has a block of its own.

Axes: O outputs, I inputs of a block (a bias is a last input of constant 1).
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from relatif.pipeline.curvature.places import Bias, Column, Place, Row, Weight
from relatif.schemas.errors import ModelError

DENSE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""Layers whose weight has its outputs as first axis."""

TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""Layers whose weight has its inputs as first axis, and whose bias is no input of it."""

TABLES = (nn.Embedding, nn.EmbeddingBag)
"""Layers whose weight has a row for each input."""

NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm, nn.RMSNorm)
"""Layers of elementwise scales and shifts, whatever their shape."""

RECURRENT = (nn.RNNBase, nn.RNNCellBase)

PROJECTIONS = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")


@dataclass(frozen=True)
class Blocks:
    """Shapes (O, I) of blocks by name, and places of a module's parameters by their names in it."""

    shapes: Mapping[str, tuple[int, int]]
    places: Mapping[str, Place]

    @property
    def elementwise(self) -> set[str]:
        """Return the names of the blocks that are one row: the gradient itself."""
        return {place.block for place in self.places.values() if isinstance(place, Row)}


def blocks_of(name: str, module: nn.Module, trained: Mapping[str, Tensor], tied: Collection[str]) -> Blocks:
    """Return the blocks of a module's trained parameters; those ``tied`` to another module's share none with a bias.

    Raises ModelError for a module whose gradients are not its examples' own, or that is not done yet.
    """
    _refuse(name, module, next(iter(trained)))
    shapes: dict[str, tuple[int, int]] = {}
    places: dict[str, Place] = {}
    for weight, bias, groups in _pairs(module):
        if weight in trained:
            block = _block(name, weight)
            folded = bias in trained and weight not in tied and not isinstance(module, TRANSPOSED)
            made = _weight(block, module, trained[weight], groups, folded)
            places[weight] = made
            shapes.update(dict.fromkeys(made.blocks, made.block_shape))
            if folded:
                places[bias] = Bias(made.blocks, made.block_shape[1], tuple(trained[bias].shape))
    rest = {key: parameter for key, parameter in trained.items() if key not in places}
    _exact(name, module, rest, shapes, places)
    return Blocks(shapes, places)


def _pairs(module: nn.Module) -> Iterator[tuple[str, str, int]]:
    """Yield the names of weights with those of their biases, and how many groups of outputs they have."""
    if isinstance(module, (*DENSE, *TRANSPOSED, *TABLES)) or is_conv1d(module):
        yield "weight", "bias", getattr(module, "groups", 1)
    elif isinstance(module, nn.MultiheadAttention):
        yield "in_proj_weight", "in_proj_bias", 1
        yield from ((key, "", 1) for key in PROJECTIONS[1:])
    elif isinstance(module, RECURRENT):
        keys = [key for key, _ in module.named_parameters(recurse=False) if key.startswith("weight")]
        yield from ((key, key.replace("weight", "bias"), 1) for key in keys)


def is_conv1d(module: nn.Module) -> bool:
    """Whether a module is Hugging Face's ``Conv1D``, a linear layer with its inputs as first axis of the weight."""
    weight = getattr(module, "weight", None)
    return type(module).__name__ == "Conv1D" and hasattr(module, "nf") and isinstance(weight, Tensor)


def _block(name: str, weight: str) -> str:
    if weight == "weight":
        return name
    # Of a module with several weights each block has the weight's own name.
    return _path(name, weight.replace("_weight", "").replace("weight_", ""))


def _weight(block: str, module: nn.Module, weight: Tensor, groups: int, folded: bool) -> Weight:
    names = (block,) if groups == 1 else tuple(f"{block}.group{place}" for place in range(groups))
    matrix = len(weight), math.prod(weight.shape[1:])
    flipped = isinstance(module, (*TABLES, *TRANSPOSED)) or is_conv1d(module)
    return Weight(names, tuple(weight.shape), matrix, flipped, folded)


def _exact(
    name: str,
    module: nn.Module,
    rest: Mapping[str, Tensor],
    shapes: dict[str, tuple[int, int]],
    places: dict[str, Place],
) -> None:
    """Add blocks of scales, shifts, biases and bare parameters."""
    norm = isinstance(module, NORMS) or all(key in ("weight", "bias") and _is_vector(rest[key]) for key in rest)
    if list(rest) == ["bias"] and not shapes:
        shapes[name], places["bias"] = (rest["bias"].numel(), 1), Column(name, tuple(rest["bias"].shape))
    elif norm and not shapes:
        width, start = sum(parameter.numel() for parameter in rest.values()), 0
        for key, parameter in rest.items():
            places[key] = Row(name, start, width, tuple(parameter.shape))
            start += parameter.numel()
        shapes[name] = (1, width)
    else:
        for key, parameter in rest.items():
            block = _path(name, key)
            if _is_vector(parameter):
                shapes[block], places[key] = (1, parameter.numel()), Row(block, 0, parameter.numel(), _shape(parameter))
            else:
                # The first axis that is not of length 1: of a class token's or position's leading axis nothing depends.
                rows = next(length for length in parameter.shape if length > 1)
                made = Weight((block,), _shape(parameter), (rows, parameter.numel() // rows))
                shapes[block], places[key] = made.block_shape, made


def _is_vector(parameter: Tensor) -> bool:
    return max(parameter.shape, default=1) == parameter.numel()


def _shape(parameter: Tensor) -> tuple[int, ...]:
    return tuple(parameter.shape)


def _refuse(name: str, module: nn.Module, key: str) -> None:
    """Refuse modules by what they are set to do."""
    why = None
    if isinstance(module, TABLES) and module.max_norm is not None:
        why = "max_norm, which changes its rows in the forward pass; use it without"
    elif isinstance(module, TABLES) and module.scale_grad_by_freq:
        why = "scale_grad_by_freq, by which gradients depend on the rest of a batch; use it without"
    elif isinstance(module, nn.MultiheadAttention) and (module.bias_k is not None or module.add_zero_attn):
        why = "add_bias_kv or add_zero_attn; use it without"
    elif isinstance(module, nn.LSTM) and module.proj_size:
        why = "proj_size; use it without"
    if why is not None:
        raise ModelError(
            f"expected trainable parameters whose gradients are understood, found {_path(name, key)} of "
            f"{type(module).__name__} with {why}, freeze it, or leave it out by curvature.exclude = ['{name}']"
        )


def _path(name: str, key: str) -> str:
    return f"{name}.{key}".lstrip(".")
