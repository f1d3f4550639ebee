"""Gradients of an embedding: a row for each word of an example, all others zero.

Axes: N examples, K words of an example, O outputs, V words of the vocabulary: the inputs of the layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import PART_ENTRIES, LayerGradients, Part, inner_products
from relatif.pipeline.curvature.positions import PositionGradients
from relatif.pipeline.curvature.sides import OneHot

NO_WORD = -1
"""The id of a place that is not used: its values are zero."""


@dataclass(frozen=True)
class SparseGradients:
    """Columns of an O x V matrix: ``values`` [N, K, O] at the words ``ids`` [N, K], each of them once in an example."""

    ids: Tensor
    values: Tensor
    width: int

    @property
    def shape(self) -> tuple[int, int]:
        """Return (O, V)."""
        return self.values.shape[2], self.width

    @property
    def count(self) -> int:
        """Return N."""
        return len(self.ids)

    @property
    def nbytes(self) -> int:
        """Return the size of ids and values."""
        return self.ids.nbytes + self.values.nbytes

    @property
    def is_held(self) -> bool:
        """Return False: most entries are zeros that are not kept."""
        return False

    def rows(self, rows: slice) -> "SparseGradients":
        """Return the gradients of some examples."""
        return SparseGradients(self.ids[rows], self.values[rows], self.width)

    def parts(self, rows: int) -> Iterator[Part]:
        """Yield groups of the words that some example has."""
        words = self.ids.unique()
        width = max(1, PART_ENTRIES // max(1, rows * self.shape[0]))
        for some in words[words != NO_WORD].split(width):
            yield Part(slice(None), some)

    def entries(self, part: Part) -> Tensor:
        """Put the values of a part into their places, [N, o, i]."""
        words = torch.arange(self.width, device=self.ids.device)[part.inputs]
        # The last place takes what belongs to no word of the part.
        place = torch.full((self.width + 1,), len(words), device=self.ids.device)
        place[words] = torch.arange(len(words), device=self.ids.device)
        places = place[self.ids]
        values = self.values[..., part.outputs]
        found = values.new_zeros(self.count, len(words) + 1, values.shape[2])
        # A word stands once in an example, so every place but the last is written once.
        found.scatter_(1, places[..., None].expand_as(values), values)
        return found[:, :-1].mT

    def rotate(self, output_basis: Tensor | None, input_basis: Tensor | None) -> LayerGradients:
        """Rotate the values: 2 N K O^2 operations. A basis of the words makes the gradients those of positions."""
        values = self.values if output_basis is None else self.values @ output_basis
        if input_basis is None:
            return SparseGradients(self.ids, values, self.width)
        return PositionGradients(((values, input_basis[self.ids]),))

    def squared_moments(self, weights: Tensor) -> Tensor:
        """Return the weighted sum of squares, [O, V]."""
        sums = self.values.new_zeros(self.width + 1, self.shape[0])
        squares = weights.to(self.values.dtype)[:, None, None] * self.values.square()
        for ids, values in zip(self.ids, squares, strict=True):
            # Example by example, as a word stands once in each: the order of the sums is fixed.
            sums[ids] += values
        return sums[:-1].T

    def weighted_norms(self, *weights: Tensor) -> Tensor:
        """Return the weighted squared norms, [W, N] float64."""
        squares = self.values.square()
        chosen = (each.T[self.ids].to(squares.dtype) for each in weights)
        return torch.stack([(squares * each).sum(dim=2).double().sum(dim=1) for each in chosen])

    def inner_products(self, preconditioner: Tensor, other: LayerGradients) -> Tensor:
        """Return preconditioned inner products with another batch, [N, M] float64."""
        return inner_products(self, preconditioner, other)

    def ones(self) -> Tensor:
        """Return weights of one, [O, V]."""
        return self.values.new_ones(()).expand(self.shape)

    def dense(self) -> Tensor:
        """Form all entries, [N, O, V]."""
        return self.entries(Part(slice(None), slice(None)))


def sparse_gradients(outputs: Tensor, inputs: OneHot) -> SparseGradients:
    """Return the gradients of output gradients [N, T, O] at one-hot inputs [N, T, V]: the sums over equal words.

    >>> words = OneHot(torch.tensor([[5, 2, 5]]), 9, torch.tensor([[1.0, 1.0, 2.0]]))
    >>> found = sparse_gradients(torch.tensor([[[1.0], [3.0], [4.0]]]), words)
    >>> found.ids.tolist(), found.values.tolist()
    ([[5, 2, -1]], [[[9.0], [3.0], [0.0]]])
    """
    same = inputs.ids[:, :, None] == inputs.ids[:, None, :]
    # The first place of each word takes the sum; argmax finds the first of equal ones.
    first = same.int().argmax(dim=2)
    places = torch.arange(inputs.ids.shape[1], device=inputs.ids.device)
    target = (first[:, None, :] == places[:, None]) * inputs.weights[:, None, :]
    ids = torch.where(first == places, inputs.ids, NO_WORD)
    return SparseGradients(ids, target.to(outputs.dtype) @ outputs, inputs.width)
