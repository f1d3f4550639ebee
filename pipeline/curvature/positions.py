"""Gradients of a layer at many positions, kept as their factors until their entries are needed.

Axes: N examples, T positions, O outputs, I inputs. The factors of a gradient are T (O + I) numbers, its entries O I.
Where the entries are many they are formed part by part each time; where they are few, once and all together.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from operator import add

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import DenseGradients, LayerGradients, Part, inner_products, output_strips
from relatif.pipeline.curvature.sides import (
    Side,
    bytes_of,
    chosen_places,
    dense,
    numbers_of,
    positions_of,
    rotated,
    rows_of,
    width_of,
)


@dataclass(frozen=True)
class PositionGradients:
    """Sums of outer products over all positions of all uses: output gradients [N, T, O] and inputs [N, T, I] of each.

    A matrix of entries costs 2 N T O I operations each time that norms, moments or products ask for it.
    """

    uses: tuple[tuple[Side, Side], ...]

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I)."""
        outputs, inputs = self.uses[0]
        return width_of(outputs), width_of(inputs)

    @property
    def count(self) -> int:
        """Return N."""
        return len(numbers_of(self.uses[0][0]))

    @property
    def nbytes(self) -> int:
        """Return the size of all factors."""
        return sum(bytes_of(side) for use in self.uses for side in use)

    @property
    def is_held(self) -> bool:
        """Return False: entries are formed when they are asked for."""
        return False

    def rows(self, rows: slice) -> "PositionGradients":
        """Return the gradients of some examples."""
        return PositionGradients(
            tuple((rows_of(outputs, rows), rows_of(inputs, rows)) for outputs, inputs in self.uses)
        )

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield strips of consecutive outputs."""
        return output_strips(self.shape, rows)

    def entries(self, part: Part) -> Tensor:
        """Form the entries of a part, [N, o, i]."""
        formed = (
            chosen_places(outputs, part.outputs).mT @ chosen_places(inputs, part.inputs)
            for outputs, inputs in self.uses
        )
        return reduce(add, formed)

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> "PositionGradients":
        """Rotate the factors of every position: 2 N T (O^2 + I^2) operations."""
        return PositionGradients(
            tuple((rotated(outputs, output_basis), rotated(inputs, input_basis)) for outputs, inputs in self.uses)
        )

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I]."""
        strips = [
            torch.einsum("n,noi->oi", weights.to(entries.dtype), entries.square())
            for entries in map(self.entries, self.parts(self.count))
        ]
        return torch.cat(strips)

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [W, N] float64."""
        total = torch.zeros(len(weights), self.count, dtype=torch.float64, device=weights[0].device)
        for part in self.parts(self.count):
            squares = self.entries(part).square().flatten(1)
            for row, each in enumerate(weights):
                total[row] += squares @ part.of(each).flatten().to(squares.dtype)
        return total

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M] float64."""
        return inner_products(self, preconditioner, other)

    def ones(self) -> Tensor:
        """Return weights of one, [O, I]."""
        return numbers_of(self.uses[0][0]).new_ones(()).expand(self.shape)

    def dense(self) -> Tensor:
        """Form all entries, [N, O, I]."""
        return reduce(add, (dense(outputs).mT @ dense(inputs) for outputs, inputs in self.uses))


def factors_first(positions: int, shape: tuple[int, int], bases: tuple[Tensor | None, Tensor | None]) -> bool:
    """Return whether it takes less to rotate the factors of T positions than the O x I entries of their sum.

    That is 2 N T (O^2 + I^2) operations against 2 N O I (O + I), without those of a side that keeps its basis (None).
    """
    widths = [0 if basis is None else len(basis) for basis in bases]
    return positions * (widths[0] ** 2 + widths[1] ** 2) < math.prod(shape) * sum(widths)


@dataclass(frozen=True, eq=False)
class UnsummedGradients:
    """Gradients with all their entries, which are formed from the factors of all positions when they are asked for.

    So a rotation may come first, where rotating the factors of few positions costs less than rotating the entries.
    """

    positions: PositionGradients

    @cached_property
    def summed(self) -> DenseGradients:
        """Return the gradients with their entries."""
        return DenseGradients(self.positions.dense())

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I)."""
        return self.positions.shape

    @property
    def count(self) -> int:
        """Return N."""
        return self.positions.count

    @property
    def nbytes(self) -> int:
        """Return the size of all entries."""
        return self.count * math.prod(self.shape) * numbers_of(self.positions.uses[0][0]).element_size()

    @property
    def is_held(self) -> bool:
        """Return True: the entries are formed once."""
        return True

    def rows(self, rows: slice) -> LayerGradients:
        """Return the gradients of some examples."""
        return self.summed.rows(rows)

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield strips of consecutive outputs."""
        return self.summed.parts(rows)

    def entries(self, part: Part) -> Tensor:
        """Return the entries of a part, [N, o, i]."""
        return self.summed.entries(part)

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> LayerGradients:
        """Rotate the factors or the entries, whichever takes less."""
        positions = sum(positions_of(outputs) for outputs, _ in self.positions.uses)
        if factors_first(positions, self.shape, (output_basis, input_basis)):
            return DenseGradients(self.positions.rotate(output_basis, input_basis).dense())
        return self.summed.rotate(output_basis, input_basis)

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I]."""
        return self.summed.squared_moments(weights)

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [W, N]."""
        return self.summed.weighted_norms(*weights)

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M]."""
        return self.summed.inner_products(preconditioner, other)

    def ones(self) -> Tensor:
        """Return weights of one, [O, I]."""
        return self.positions.ones()

    def dense(self) -> Tensor:
        """Return the gradients, [N, O, I]."""
        return self.summed.dense()
