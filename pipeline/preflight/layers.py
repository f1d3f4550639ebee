"""What the curvature of each covered layer is, and what it costs.

Axes: N training examples, T positions, O outputs, I inputs of a block (bias folded), P parameters, C Fisher terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from relatif.pipeline.curvature.capture import ForwardPass
from relatif.schemas.config import CurvatureConfig

EIGEN_FLOPS = 9
"""Operations of a symmetric eigendecomposition with eigenvectors, over the cube of its width (Golub and Van Loan)."""

NUMBER_BYTES = 8
"""Factors are float64."""


@dataclass(frozen=True)
class Block:
    """A block of the curvature: its layer's type, its shape, and at how many positions the layer is applied."""

    name: str
    layer: str
    outputs: int
    inputs: int
    positions: int
    elementwise: bool = False

    @property
    def size(self) -> int:
        """Number of its parameters."""
        return self.outputs * self.inputs

    @property
    def widest(self) -> int:
        """Width of its larger Kronecker factor."""
        return max(self.outputs, self.inputs)

    @property
    def squares(self) -> int:
        """Numbers of both Kronecker factors."""
        return self.outputs**2 + self.inputs**2


@dataclass(frozen=True)
class Cost:
    """The form of a block's curvature, the bytes that it takes in storage, and the operations that make it."""

    form: str
    bytes: int
    flops: float


def blocks_of(forward: ForwardPass) -> tuple[Block, ...]:
    """Return the blocks of a model's covered layers, in order, from a forward pass of any examples."""
    return tuple(
        Block(name, type(layer.module).__name__, *shape, forward.positions[name], layer.rule.elementwise)
        for layer in forward.coverage.layers.values()
        for name, shape in layer.blocks.items()
    )


def block_cost(block: Block, config: CurvatureConfig, rows: int, terms: int) -> Cost:
    """Return the cost of a block's own curvature, for N = ``rows`` and C = ``terms``."""
    outputs, inputs, positions = block.outputs, block.inputs, block.positions
    if config.eigen_method == "identity":
        return Cost(f"identity of {outputs:,} x {inputs:,}", NUMBER_BYTES * block.size, 0.0)
    if config.eigen_method == "exact":
        return Cost("part of the joint matrix", 0, 0.0)
    sums = 2 * positions * (inputs**2 + terms * outputs**2)
    if config.eigen_method == "ekfac":
        # The gradient from its positions, then its rotation into the bases and its square.
        formed = 2 * positions * block.size + 2 * block.size * (outputs + inputs)
        sums += terms * (2 * block.squares + 2 * block.size if positions == 1 else formed)
    solved = EIGEN_FLOPS * (outputs**3 + inputs**3)
    form = f"Kronecker factors {outputs:,} x {outputs:,} and {inputs:,} x {inputs:,}"
    if block.elementwise:
        form = f"exact block {inputs:,} x {inputs:,}"
    return Cost(form, NUMBER_BYTES * (block.squares + block.size), float(rows) * sums + solved)


def joint_cost(blocks: Sequence[Block], rows: int, terms: int) -> Cost:
    """Return the cost of the exact curvature of all blocks together."""
    size = sum(block.size for block in blocks)
    flops = float(rows) * terms * size**2 + EIGEN_FLOPS * float(size) ** 3
    return Cost(f"one dense matrix {size:,} x {size:,}", NUMBER_BYTES * (size * size + size), flops)
