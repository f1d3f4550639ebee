"""What the curvature of each covered layer is, and what it costs.

Axes: N training examples, T positions, O outputs, I inputs of a block (bias folded), P parameters, C Fisher terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from relatif.pipeline.curvature.capture import ForwardPass
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import is_diagonal
from relatif.schemas.config import CurvatureConfig

EIGEN_FLOPS = 9
"""Operations of a symmetric eigendecomposition with eigenvectors, over the cube of its width (Golub and Van Loan)."""

NUMBER_BYTES = 8
"""A number of float64, the precision of dense matrices."""


@dataclass(frozen=True)
class Block:
    """A block of the curvature: its layer's type, its shape, and at how many positions the layer is applied.

    ``diagonal`` says for outputs and inputs whether the moment is kept as its diagonal. ``number_bytes`` are those of a
    number of the factors, ``row_bytes`` those of an example's gradient as it is held.
    """

    name: str
    layer: str
    outputs: int
    inputs: int
    positions: int
    elementwise: bool = False
    diagonal: tuple[bool, bool] = (False, False)
    number_bytes: int = field(default=8, compare=False)
    row_bytes: int = field(default=0, compare=False)
    is_held: bool = field(default=True, compare=False)

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return self.outputs * self.inputs

    @property
    def widest(self) -> int:
        """Width of its larger Kronecker factor that is a matrix; 1 where both are diagonal."""
        return max((width for width, diagonal in self.sides if not diagonal), default=1)

    @property
    def squares(self) -> int:
        """Numbers of both Kronecker factors."""
        return sum(width if diagonal else width**2 for width, diagonal in self.sides)

    @property
    def sides(self) -> tuple[tuple[int, bool], ...]:
        """Width of outputs and inputs, each with whether its moment is a diagonal."""
        return tuple(zip((self.outputs, self.inputs), self.diagonal, strict=True))


@dataclass(frozen=True)
class Cost:
    """The form of a block's curvature, the bytes that it takes in storage, and the operations that make it."""

    form: str
    bytes: int
    flops: float


def blocks_of(forward: ForwardPass) -> tuple[Block, ...]:
    """Return the blocks of a model's covered layers, in order, from a forward pass of any examples."""
    uses = forward.factors(forward.backward(torch.zeros_like(forward.outputs)))
    return tuple(
        replace(
            Block(name, type(layer.module).__name__, *shape, forward.positions[name], name in layer.elementwise),
            diagonal=_diagonal(uses[name]),
            **_held(layer_gradients(uses[name])),
        )
        for layer in forward.coverage.layers.values()
        for name, shape in layer.blocks.items()
    )


def _diagonal(uses: Sequence[Factors]) -> tuple[bool, bool]:
    outputs, inputs = (all(map(is_diagonal, sides)) for sides in ([u.outputs for u in uses], [u.inputs for u in uses]))
    return outputs, inputs


def _held(gradients: LayerGradients) -> dict[str, Any]:
    """Return how a block's gradients are held."""
    size = gradients.ones().element_size()
    return {"number_bytes": size, "row_bytes": gradients.nbytes // gradients.count, "is_held": gradients.is_held}


def block_cost(block: Block, config: CurvatureConfig, rows: int, terms: int) -> Cost:
    """Return the cost of a block's own curvature, for N = ``rows`` and C = ``terms``."""
    outputs, inputs, positions = block.outputs, block.inputs, block.positions
    if config.eigen_method == "identity":
        return Cost(f"identity of {outputs:,} x {inputs:,}", block.number_bytes * block.size, 0.0)
    if config.eigen_method == "exact":
        return Cost("part of the joint matrix", 0, 0.0)
    of_outputs, of_inputs = (width if diagonal else width**2 for width, diagonal in block.sides)
    sums = 2 * positions * (of_inputs + terms * of_outputs)
    if config.eigen_method == "ekfac":
        # The gradient from its positions, then its rotation into the bases and its square.
        formed = 2 * positions * block.size + 2 * block.size * (outputs + inputs)
        sums += terms * (2 * block.squares + 2 * block.size if positions == 1 else formed)
    solved = EIGEN_FLOPS * sum(width**3 for width, diagonal in block.sides if not diagonal)
    form = f"Kronecker factors {' and '.join(factor_text(width, diagonal=diagonal) for width, diagonal in block.sides)}"
    if block.elementwise:
        form = f"exact block {inputs:,} x {inputs:,}"
    return Cost(form, block.number_bytes * (block.squares + block.size), float(rows) * sums + solved)


def factor_text(width: int, *, diagonal: bool) -> str:
    """Return how a factor is kept, in words."""
    return f"{width:,} on the diagonal" if diagonal else f"{width:,} x {width:,}"


def joint_cost(blocks: Sequence[Block], rows: int, terms: int) -> Cost:
    """Return the cost of the exact curvature of all blocks together."""
    size = sum(block.size for block in blocks)
    flops = float(rows) * terms * size**2 + EIGEN_FLOPS * float(size) ** 3
    return Cost(f"one dense matrix {size:,} x {size:,}", NUMBER_BYTES * (size * size + size), flops)
