"""Where a parameter's numbers stand in the blocks of the curvature, and its gradients as factors of those blocks.

Axes: N examples, T positions, O outputs, I inputs of a block (a bias is a last input of constant 1), R rows and C
columns of a weight as a matrix. A block that is one row or one column is exact: its factors hold the gradient itself
beside a constant 1, summed over all positions and uses.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.sides import OneHot, Side

Shape = tuple[int, ...]


class Factors(NamedTuple):
    """One use of a block: values [N, T, O] and [N, T, I] whose outer products, summed over positions, are its gradient.

    ``outputs`` are the gradients at the layer's outputs and ``inputs`` what it saw, the same for every term of the
    Fisher. ``transposed`` says that it is the other way round: then ``inputs`` are the gradients.
    """

    outputs: Side
    inputs: Side
    transposed: bool = False

    @property
    def gradients(self) -> Side:
        """Return the side that holds gradients."""
        return self.inputs if self.transposed else self.outputs

    @property
    def seen(self) -> Side:
        """Return the side that is the same for every term of the Fisher."""
        return self.outputs if self.transposed else self.inputs


BlockUse = tuple[str, Factors]
"""A block's name and one use of it."""


class Place(Protocol):
    """Where one parameter's numbers stand."""

    @property
    def shape(self) -> Shape:
        """Return the parameter's shape."""
        ...

    def values(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Return the parameter's values [..., *shape] from matrices [..., O, I] of the blocks."""
        ...

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the blocks' factors for a gradient [N, *shape] of each example."""
        ...


@dataclass(frozen=True)
class Row:
    """Numbers of an exact block [1, width], from ``start`` on: scales, shifts, bare vectors."""

    block: str
    start: int
    width: int
    shape: Shape

    def values(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Return the parameter's values."""
        row = blocks[self.block][..., 0, self.start : self.start + math.prod(self.shape)]
        return row.reshape((*row.shape[:-1], *self.shape))

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the gradient as a row, zero where other parameters of the block stand."""
        flat = gradient.reshape(len(gradient), -1)
        row = functional.pad(flat, (self.start, self.width - self.start - flat.shape[1]))
        yield self.block, Factors(row.new_ones(len(row), 1, 1), row[:, None], transposed=True)


@dataclass(frozen=True)
class Column:
    """All numbers of an exact block [O, 1]: a bias whose weight has no block with it."""

    block: str
    shape: Shape

    def values(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Return the parameter's values."""
        column = blocks[self.block][..., 0]
        return column.reshape((*column.shape[:-1], *self.shape))

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the gradient as a column."""
        flat = gradient.reshape(len(gradient), 1, -1)
        yield self.block, Factors(flat, flat.new_ones(len(flat), 1, 1))


@dataclass(frozen=True)
class Bias:
    """The last inputs of the blocks of a weight, one block for each group of outputs."""

    blocks: tuple[str, ...]
    width: int
    shape: Shape

    def values(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Return the bias."""
        return torch.cat([blocks[name][..., -1] for name in self.blocks], dim=-1)

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the gradient at the input that is constant: the weight's inputs are zero there."""
        last = gradient.new_zeros(self.width)
        last[-1] = 1
        inputs = last.expand(len(gradient), 1, -1)
        for name, part in zip(self.blocks, gradient[:, None].chunk(len(self.blocks), dim=-1), strict=True):
            yield name, Factors(part, inputs)


@dataclass(frozen=True)
class Weight:
    """A weight as matrix [R, C], its rows dealt out to one block for each group.

    A block has R outputs and C inputs, or the other way round where the weight is ``flipped``: an embedding's rows are
    its inputs. With ``bias`` it has one more input.
    """

    blocks: tuple[str, ...]
    shape: Shape
    matrix: tuple[int, int]
    flipped: bool = False
    bias: bool = False

    @property
    def block_shape(self) -> tuple[int, int]:
        """Return (O, I) of each block."""
        rows, columns = self.matrix[0] // len(self.blocks), self.matrix[1]
        outputs, inputs = (columns, rows) if self.flipped else (rows, columns)
        return outputs, inputs + self.bias

    def values(self, blocks: Mapping[str, Tensor]) -> Tensor:
        """Return the weight."""
        parts = [blocks[name][..., :-1] if self.bias else blocks[name] for name in self.blocks]
        whole = torch.cat([part.mT if self.flipped else part for part in parts], dim=-2)
        return whole.reshape((*whole.shape[:-2], *self.shape))

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the gradient row by row: the positions are its rows, and a row's own side holds a one at its place."""
        rows = self.matrix[0] // len(self.blocks)
        places = torch.arange(rows, device=gradient.device).expand(len(gradient), -1)
        eye = OneHot(places, rows, gradient.new_ones(rows).expand(len(gradient), -1))
        groups = gradient.reshape(len(gradient), len(self.blocks), rows, self.matrix[1]).unbind(dim=1)
        yield from self.factors([eye] * len(self.blocks), groups, by_rows=False)

    def factors(
        self, rows: Sequence[Side], columns: Sequence[Side], *, by_rows: bool, folded: bool = False
    ) -> Iterator[BlockUse]:
        """Yield the factors of each group from values [N, T, R] and [N, T, C] whose outer products are its gradient.

        ``by_rows`` says that the rows' side holds gradients; ``folded`` that the inputs have the bias's
        constant already.
        """
        outputs, inputs = (columns, rows) if self.flipped else (rows, columns)
        transposed = by_rows if self.flipped else not by_rows
        for name, one, other in zip(self.blocks, outputs, inputs, strict=True):
            # A use without the bias: its input is zero there.
            whole = _widened(other) if self.bias and not folded else other
            yield name, Factors(one, whole, transposed)


def _widened(side: Side) -> Side:
    """Return a side with one more place, at which it is zero."""
    return OneHot(side.ids, side.width + 1, side.weights) if isinstance(side, OneHot) else functional.pad(side, (0, 1))
