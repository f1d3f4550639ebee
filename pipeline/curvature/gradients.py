"""Per-example gradients of one layer as a value with two forms and one set of operations.

Axes: N examples, T positions at which the layer is applied, O outputs, I inputs (a bias is a last input of constant 1).
The gradient of example n is the O x I matrix ``sum_t output_gradients[n, t] x inputs[n, t]``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.rules import Factors


class LayerGradients(Protocol):
    """Gradients of one layer for a batch; callers never ask which form they hold."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, I), the shape of one gradient."""
        ...

    def rotate(self, output_basis: Tensor, input_basis: Tensor) -> "LayerGradients":
        """Return ``Q_out' G Q_in`` for bases of shapes [O, O] and [I, I]."""
        ...

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return ``sum_n weights[n] G[n]^2`` (elementwise square), shape [O, I]."""
        ...

    def weighted_norms(self, weights: Tensor) -> Tensor:
        """Return ``sum_oi weights[o, i] G[n, o, i]^2``, shape [N]."""
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

    def rotate(self, output_basis: Tensor, input_basis: Tensor) -> "FactoredGradients":
        """Rotate both factors: 2 N (O^2 + I^2) operations."""
        return FactoredGradients(self.outputs @ output_basis, self.inputs @ input_basis)

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I], as one product of squared factors."""
        return (weights[:, None] * self.outputs.square()).T @ self.inputs.square()

    def weighted_norms(self, weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [N]: the square of a rank-one matrix is rank-one."""
        return ((self.outputs.square() @ weights) * self.inputs.square()).sum(dim=1)

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

    def rotate(self, output_basis: Tensor, input_basis: Tensor) -> "DenseGradients":
        """Rotate every matrix: 2 N O I (O + I) operations."""
        return DenseGradients(output_basis.T @ (self.values @ input_basis))

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, I]."""
        return torch.einsum("n,noi->oi", weights, self.values.square())

    def weighted_norms(self, weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [N]."""
        return self.values.square().flatten(1) @ weights.flatten()

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M]."""
        return (self.values * preconditioner).flatten(1) @ other.dense().flatten(1).T

    def ones(self) -> Tensor:
        """Return weights of one, [O, I]."""
        return self.values.new_ones(self.shape)

    def dense(self) -> Tensor:
        """Return the gradients, [N, O, I]."""
        return self.values


def layer_gradients(uses: Sequence[Factors]) -> LayerGradients:
    """Choose the cheaper form for the sum over a block's uses, with factors [N, T, O] and [N, T, I].

    With one use at one position the factors need N (O + I) numbers instead of N O I. With more, squares and rotations
    of a sum of T outer products need the cross terms, so the sum is formed once at 2 N T O I operations.

    >>> once = Factors(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
    >>> layer_gradients([once]).dense().tolist()
    [[[3.0, 4.0, 5.0], [6.0, 8.0, 10.0]]]
    >>> twice = layer_gradients([once, once])
    >>> type(twice).__name__, twice.dense().tolist()
    ('DenseGradients', [[[6.0, 8.0, 10.0], [12.0, 16.0, 20.0]]])
    """
    if len(uses) == 1 and uses[0].outputs.shape[1] == 1:
        # One position: the gradient is one outer product.
        return FactoredGradients(uses[0].outputs[:, 0], uses[0].inputs[:, 0])
    return DenseGradients(reduce(torch.add, (torch.einsum("nto,nti->noi", use.outputs, use.inputs) for use in uses)))


def concatenate(batches: Sequence[LayerGradients]) -> LayerGradients:
    """Return the gradients of several batches of one layer as one batch, in order."""
    factored = [batch for batch in batches if isinstance(batch, FactoredGradients)]
    if len(factored) == len(batches):
        return FactoredGradients(
            torch.cat([batch.outputs for batch in factored]), torch.cat([batch.inputs for batch in factored])
        )
    return DenseGradients(torch.cat([batch.dense() for batch in batches]))
