"""Per-example gradients of one layer as a value with several forms and one set of operations; the forms of one matrix.

Axes: N examples, T positions at which the layer is applied, O outputs, I inputs (a bias is a last input of constant 1).
The gradient of example n is the O x I matrix ``sum_t output_gradients[n, t] x inputs[n, t]``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.sides import Chosen

PART_ENTRIES = 2**22
"""Entries of a batch's gradients that are formed at once where not all are held: 16 MiB in float32."""


@dataclass(frozen=True)
class Part:
    """Some entries of an O x I matrix: consecutive outputs, and some inputs."""

    outputs: slice
    inputs: Chosen

    def of(self, values: Tensor) -> Tensor:
        """Return these entries of [..., O, I], [..., o, i]."""
        return values[..., self.outputs, :][..., self.inputs]


class LayerGradients(Protocol):
    """Gradients of one layer for a batch; callers never ask which form they hold."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I), the shape of one gradient."""
        ...

    @property
    def count(self) -> int:
        """Return N."""
        ...

    @property
    def nbytes(self) -> int:
        """Return how much memory the gradients take."""
        ...

    @property
    def is_held(self) -> bool:
        """Return whether every entry, or both factors of a rank-one matrix, are there: nothing is formed when asked."""
        ...

    def rows(self, rows: slice) -> "LayerGradients":
        """Return the gradients of some examples."""
        ...

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield parts, small enough for so many examples, that cover every entry that is not zero in all examples."""
        ...

    def entries(self, part: Part) -> Tensor:
        """Return the entries of a part, [N, o, i]."""
        ...

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> "LayerGradients":
        """Return ``Q_out' G Q_in`` for bases of shapes [O, O] and [I, I]; None stands for the identity."""
        ...

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return ``sum_n weights[n] G[n]^2`` (elementwise square), shape [O, I]."""
        ...

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return ``sum_oi weights[o, i] G[n, o, i]^2`` for each of W weights [O, I], shape [W, N], float64.

        Squares are taken once for all of them.
        """
        ...

    def inner_products(self, preconditioner: Tensor, other: "LayerGradients") -> Tensor:
        """Return ``sum_oi preconditioner[o, i] G[n, o, i] other[m, o, i]``, shape [N, M]."""
        ...

    def ones(self) -> Tensor:
        """Return weights of one, [O, I], in the gradients' dtype and on their device."""
        ...

    def dense(self) -> Tensor:
        """Return the gradients themselves, shape [N, O, I]."""
        ...


@dataclass(frozen=True)
class FactoredGradients:
    """Rank-one gradients of a layer applied at one position: G[n] = outputs[n] x inputs[n].

    Norms and moments are products of matrices of N (O + I) numbers; the N O I entries are never formed for them.
    """

    outputs: Tensor
    inputs: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I)."""
        return self.outputs.shape[1], self.inputs.shape[1]

    @property
    def count(self) -> int:
        """Return N."""
        return len(self.outputs)

    @property
    def nbytes(self) -> int:
        """Return the size of both factors."""
        return self.outputs.nbytes + self.inputs.nbytes

    @property
    def is_held(self) -> bool:
        """Return True."""
        return True

    def rows(self, rows: slice) -> "FactoredGradients":
        """Return the gradients of some examples."""
        return FactoredGradients(self.outputs[rows], self.inputs[rows])

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield strips of consecutive outputs."""
        return output_strips(self.shape, rows)

    def entries(self, part: Part) -> Tensor:
        """Return the entries of a part, [N, o, i]."""
        return self.outputs[:, part.outputs, None] * self.inputs[:, None, part.inputs]

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> "FactoredGradients":
        """Rotate both factors: 2 N (O^2 + I^2) operations."""
        return FactoredGradients(_times(self.outputs, output_basis), _times(self.inputs, input_basis))

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I], as one product of squared factors."""
        return (weights.to(self.outputs.dtype)[:, None] * self.outputs.square()).T @ self.inputs.square()

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [W, N]: the square of a rank-one matrix is rank-one."""
        outputs, inputs = self.outputs.double().square(), self.inputs.double().square()
        return torch.stack([((outputs @ each.double()) * inputs).sum(dim=1) for each in weights])

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M]."""
        return DenseGradients(self.dense()).inner_products(preconditioner, other)

    def ones(self) -> Tensor:
        """Return weights of one, [O, I]."""
        return self.outputs.new_ones(self.shape)

    def dense(self) -> Tensor:
        """Return the outer products, [N, O, I]."""
        return self.outputs[:, :, None] * self.inputs[:, None, :]


@dataclass(frozen=True)
class DenseGradients:
    """Gradients with all their entries, [N, O, I]."""

    values: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I)."""
        return self.values.shape[1], self.values.shape[2]

    @property
    def count(self) -> int:
        """Return N."""
        return len(self.values)

    @property
    def nbytes(self) -> int:
        """Return the size of all entries."""
        return self.values.nbytes

    @property
    def is_held(self) -> bool:
        """Return True."""
        return True

    def rows(self, rows: slice) -> "DenseGradients":
        """Return the gradients of some examples."""
        return DenseGradients(self.values[rows])

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield strips of consecutive outputs."""
        return output_strips(self.shape, rows)

    def entries(self, part: Part) -> Tensor:
        """Return the entries of a part, [N, o, i]."""
        return part.of(self.values)

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> "DenseGradients":
        """Rotate every matrix: 2 N O I (O + I) operations."""
        values = _times(self.values, input_basis)
        return DenseGradients(values if output_basis is None else output_basis.T @ values)

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I]."""
        return torch.einsum("n,noi->oi", weights.to(self.values.dtype), self.values.square())

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [W, N]."""
        between = torch.stack([each.double().flatten() for each in weights], dim=1)
        return (self.values.double().square().flatten(1) @ between).T

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M]."""
        if not other.is_held:
            return inner_products(self, preconditioner, other)
        return (self.values * preconditioner).flatten(1) @ other.dense().flatten(1).T

    def ones(self) -> Tensor:
        """Return weights of one, [O, I]."""
        return self.values.new_ones(self.shape)

    def dense(self) -> Tensor:
        """Return the gradients, [N, O, I]."""
        return self.values


def output_strips(shape: tuple[int, int], rows: int) -> Iterator[Part]:
    """Yield strips of consecutive outputs of an O x I matrix, small enough for so many examples."""
    outputs, inputs = shape
    height = max(1, PART_ENTRIES // max(1, rows * inputs))
    for start in range(0, outputs, height):
        yield Part(slice(start, min(start + height, outputs)), slice(None))


def inner_products(one: LayerGradients, preconditioner: Tensor, other: LayerGradients) -> Tensor:
    """Return ``sum_oi preconditioner[o, i] G[n, o, i] other[m, o, i]``, [N, M] float64, formed part by part."""
    total = torch.zeros(one.count, other.count, dtype=torch.float64, device=preconditioner.device)
    for part in one.parts(max(one.count, other.count)):
        mine = one.entries(part)
        mine = mine * part.of(preconditioner).to(mine.dtype)
        total += mine.flatten(1) @ other.entries(part).flatten(1).T
    return total


def _times(values: Tensor, basis: Tensor | None) -> Tensor:
    return values if basis is None else values @ basis
