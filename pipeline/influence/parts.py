"""Which part of an inner product of gradients comes from which layer, and from which position of a training example.

Axes: M queries (explained inputs), N training examples, T positions, O outputs, I inputs of a block, W words.
The gradient of a training example is a sum over uses of a block and over positions, ``sum_t d_t x a_t``. Influence is
linear in it: with S = (H + lambda I)^-1 g_q of a query as a matrix [O, I], position t has the part ``d_t' S a_t``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import JOINT, Curvature, KroneckerBasis, by_layer
from relatif.pipeline.curvature.forms import PART_ENTRIES, DenseGradients, LayerGradients, Part, output_strips
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import OneHot, Side, chosen_places, dense, rotated, rows_of

Shapes = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class BlockQueries:
    """A block's side of the queries, S: gradients [M, O, I] times ``weights`` [O, I], entry by entry, in a basis.

    None is the basis of the parameters themselves.
    """

    gradients: LayerGradients
    weights: Tensor
    basis: KroneckerBasis | None = None

    def rows(self, rows: slice) -> "BlockQueries":
        """Return some of the queries."""
        return BlockQueries(self.gradients.rows(rows), self.weights, self.basis)


Queries = Mapping[str, BlockQueries]
"""Blocks by name."""


def influence_queries(curvature: Curvature, rotated_test: Mapping[str, LayerGradients], shapes: Shapes) -> Queries:
    """Return the queries' side of influence (Eq. 3) from Q'g_t: S is (H + lambda I)^-1 g_t."""
    weights = {name: curvature.inverse(name) for name in rotated_test}
    return _in_bases(curvature, rotated_test, weights, shapes)


def gradient_queries(curvature: Curvature, rotated_test: Mapping[str, LayerGradients], shapes: Shapes) -> Queries:
    """Return the queries' side of plain inner products from Q'g_t: S is g_t."""
    weights = {name: gradient.ones() for name, gradient in rotated_test.items()}
    return _in_bases(curvature, rotated_test, weights, shapes)


def solved_queries(solutions: Mapping[str, Tensor]) -> Queries:
    """Return the queries' side for matrices S, [M, O, I] by block, such as an iterative curvature solves for."""
    return {name: BlockQueries(DenseGradients(each), torch.ones_like(each[0])) for name, each in solutions.items()}


def position_parts(queries: BlockQueries, use: Factors) -> Tensor:
    """Return the parts of all positions of a block's use for one query, ``d_nt' S a_nt``, [N, T] float64.

    ``use`` has the training examples' factors, as a forward pass records them.
    """
    basis = queries.basis or KroneckerBasis(None, None)
    outputs, inputs = rotated(use.outputs, basis.output), rotated(use.inputs, basis.input)
    count = len(inputs.ids if isinstance(inputs, OneHot) else inputs)
    if isinstance(inputs, OneHot):
        return _at_words(queries, outputs, inputs)
    return torch.cat([_of_row(queries, rows_of(outputs, each), inputs[each]) for each in _singles(count)])


def block_parts(queries: Queries, uses: Mapping[str, Sequence[Factors]]) -> dict[str, list[Tensor]]:
    """Return the parts of every block, use by use, [N, T] each, for one query: all of them add up to its influence."""
    return {name: [position_parts(block, use) for use in uses[name]] for name, block in queries.items()}


def _in_bases(
    curvature: Curvature, rotated_test: Mapping[str, LayerGradients], weights: Mapping[str, Tensor], shapes: Shapes
) -> Queries:
    if curvature.is_joint:
        # One basis couples all layers: S goes back to the parameters, where layers lie side by side.
        scaled = DenseGradients(rotated_test[JOINT].dense() * weights[JOINT])
        values = curvature.blocks[JOINT].unrotate(scaled).dense().flatten(1)
        return solved_queries(by_layer(values, shapes))
    found = {}
    for name, gradients in rotated_test.items():
        basis = curvature.blocks[name].basis
        assert basis is None or isinstance(basis, KroneckerBasis)
        found[name] = BlockQueries(gradients, weights[name], basis)
    return found


def _singles(count: int) -> list[slice]:
    """Return every example by itself: what all its positions need is held at once."""
    return [slice(row, row + 1) for row in range(count)]


def _of_row(queries: BlockQueries, outputs: Side, inputs: Tensor) -> Tensor:
    """Return the parts of one training example's positions, [1, T]."""
    seen, total = inputs.double(), torch.zeros(inputs.shape[:2], dtype=torch.float64, device=inputs.device)
    for part in output_strips(queries.gradients.shape, 1):
        matrix = queries.gradients.entries(part)[0].double() * part.of(queries.weights).double()
        total += ((chosen_places(outputs, part.outputs).double() @ matrix) * seen).sum(dim=2)
    return total


def _at_words(queries: BlockQueries, outputs: Side, words: OneHot) -> Tensor:
    """Return the parts of positions at which one input alone is not zero, [N, T]: of S one column each is needed."""
    sent, ids = dense(outputs).double(), words.ids.contiguous()
    total = torch.zeros(ids.shape, dtype=torch.float64, device=ids.device)
    for some in ids.unique().split(max(1, PART_ENTRIES // queries.gradients.shape[0])):
        part = Part(slice(None), some)
        columns = (queries.gradients.entries(part)[0].double() * part.of(queries.weights).double()).T
        place = torch.searchsorted(some, ids).clamp_(max=len(some) - 1)
        values = (sent * columns[place]).sum(dim=2) * words.weights.double()
        total += torch.where(some[place] == ids, values, 0.0)
    return total
