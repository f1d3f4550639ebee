"""Products of the Fisher with many vectors at once, without the matrix.

Axes: N examples, C terms of the Fisher, T positions, O outputs, I inputs of a block (bias folded), R vectors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import forward_pass, term_output_gradients
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import Side, applied, collected, dense, positions_of, width_of

PRODUCT_BYTES = 64 * 2**20
"""Upper limit of the products ``V a`` of one block that are held at once."""

Vectors = Mapping[str, Tensor]
"""For each block R matrices, [R, O, I]."""


class _Block(Protocol):
    """The gradients g_nc of a block, for all examples and terms."""

    @property
    def product_size(self) -> int:
        """Return the size of the intermediate ``V a``, per vector."""
        ...

    def dots(self, vectors: Tensor) -> Tensor:
        """Return ``g_nc' v_r``, [N, R, C]."""
        ...

    def sums(self, dots: Tensor) -> Tensor:
        """Return ``sum_nc dots[n, r, c] g_nc``, [R, O, I]."""
        ...


@dataclass(frozen=True)
class _OuterProducts:
    """Gradients ``sum_t d_nct x a_nt``: inputs [N, T, I] that are the same for all terms, output gradients [N, C, T O].

    A vector meets every input once for all terms, as ``g' v = sum_t d' (V a)``; the gradients are never formed.
    """

    inputs: Side
    outputs: Tensor

    @property
    def product_size(self) -> int:
        return self.outputs[:, 0].numel()

    def dots(self, vectors: Tensor) -> Tensor:
        # V a once for all terms, then one product with the output gradients of all terms.
        return applied(self.inputs, vectors).flatten(2) @ self.outputs.mT

    def sums(self, dots: Tensor) -> Tensor:
        return collected((dots @ self.outputs).unflatten(2, (positions_of(self.inputs), -1)), self.inputs)


@dataclass(frozen=True)
class _Rows:
    """Gradients that are one row each, kept whole: [N, C, I]."""

    rows: Tensor

    @property
    def product_size(self) -> int:
        return self.rows[:, :, 0].numel()

    def dots(self, vectors: Tensor) -> Tensor:
        return torch.einsum("nci,ri->nrc", self.rows, vectors[:, 0])

    def sums(self, dots: Tensor) -> Tensor:
        return torch.einsum("nrc,nci->ri", dots, self.rows)[:, None]


@dataclass(frozen=True)
class _Transposed:
    """Gradients whose outputs and inputs have changed places."""

    block: _Block

    @property
    def product_size(self) -> int:
        return self.block.product_size

    def dots(self, vectors: Tensor) -> Tensor:
        return self.block.dots(vectors.mT)

    def sums(self, dots: Tensor) -> Tensor:
        return self.block.sums(dots).mT


@dataclass(frozen=True)
class _Sum:
    """Gradients that are sums over a block's uses."""

    parts: Sequence[_Block]

    @property
    def product_size(self) -> int:
        return max(part.product_size for part in self.parts)

    def dots(self, vectors: Tensor) -> Tensor:
        return reduce(add, (part.dots(vectors) for part in self.parts))

    def sums(self, dots: Tensor) -> Tensor:
        return reduce(add, (part.sums(dots) for part in self.parts))


def fisher_products(
    subject: CoveredModel, examples: Examples, vectors: Vectors, *, proven: int | None = None
) -> dict[str, Tensor]:
    """Return ``sum_n E_y g_ny (g_ny' v)`` of R vectors, each [R, O, I], expectation as in Eq. 7.

    ``proven`` is the size of pieces where the passes over these examples were proven before, as in an earlier product.
    Raises as ``forward_pass`` and ``term_output_gradients`` do.
    """
    totals = {name: torch.zeros_like(values) for name, values in vectors.items()}
    count = len(next(iter(vectors.values())))
    for piece in pieces(subject, examples, proven):
        weights, blocks = _gradients(subject, piece, proven=proven is not None)
        # As many vectors at once as the intermediate of the widest block allows, in float64.
        width = max(1, PRODUCT_BYTES // (8 * max(block.product_size for block in blocks.values())))
        for start in range(0, count, width):
            some = slice(start, start + width)
            # The Fisher couples blocks: g'v is summed over all of them before it multiplies any g.
            dots = reduce(add, (block.dots(vectors[name][some]) for name, block in blocks.items()))
            for name, block in blocks.items():
                totals[name][some] += block.sums(dots * weights)
    return totals


def _gradients(subject: CoveredModel, examples: Examples, *, proven: bool) -> tuple[Tensor, dict[str, _Block]]:
    """Return the weights of the terms, [N, 1, C], and every block's gradients."""
    first = examples.first_index
    forward = forward_pass(subject.model, examples.inputs, subject.coverage, first_index=first, proven=proven)
    weights: list[Tensor] = []
    found: dict[str, list[list[Factors]]] = {}
    for weight, output_gradients in term_output_gradients(forward, subject, examples):
        weights.append(weight)
        for name, uses in forward.factors(output_gradients).items():
            found.setdefault(name, []).append(uses)
    blocks: dict[str, _Block] = {
        name: _Sum([_part(list(use)) for use in zip(*terms, strict=True)]) for name, terms in found.items()
    }
    return torch.stack(weights, dim=1)[:, None], blocks


def _part(terms: Sequence[Factors]) -> _Block:
    """Return one use's gradients, of all terms."""
    first = terms[0]
    if first.transposed and (positions_of(first.outputs), width_of(first.outputs)) == (1, 1):
        return _Rows(torch.cat([dense(use.inputs) for use in terms], dim=1))
    # What the layer saw is the same for every term: the first term's stands for all.
    found = _OuterProducts(first.seen, torch.stack([dense(use.gradients).flatten(1) for use in terms], dim=1))
    return _Transposed(found) if first.transposed else found
