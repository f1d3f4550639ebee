"""Gradients of a layer at many positions, kept as their factors; what needs their entries forms these part by part.

Axes: N examples, T positions, O outputs, I inputs. A gradient takes T (O + I) numbers instead of O I.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import LayerGradients, Part, inner_products, output_strips
from relatif.pipeline.curvature.sides import (
    Side,
    bytes_of,
    chosen_places,
    dense,
    numbers_of,
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

    def weighted_norms(self, weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [N] float64."""
        total = torch.zeros(self.count, dtype=torch.float64, device=weights.device)
        for part in self.parts(self.count):
            squares = self.entries(part).square()
            total += squares.flatten(1) @ part.of(weights).flatten().to(squares.dtype)
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
