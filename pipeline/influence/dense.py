"""Gradients as dense rows: a product in a narrow type bounds each pair, and float64 rows score the few that matter.

Axes: M queries, m of them in a tile, N training examples of a shard, B pairs, P parameters of all layers side by side.
C [P] stands between two gradients, w = sqrt(C) g. With W_t = C g_t / |w_t| and W_n = g_n / |w_n| the product of two
rows is a cosine. Rounding both to the type of the screen is measured when it is done,

    e_t = |(rounded W_t - W_t) / sqrt(C)|,    e_n = |sqrt(C) (rounded W_n - W_n)|,

and by Cauchy-Schwarz changes a cosine by at most e_n + e_t (1 + e_n). The terms of a product are, in absolute value,
at most (1 + e_t) (1 + e_n) in sum, of which a float32 sum of P terms loses at most P units; a product that is returned
in a narrower type is rounded once more, by a share of itself. Exact scores come from C g_t and g_n, each times a power
of two: that rounds nothing, and keeps gradients of any size in range.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.precision import FLOAT32_UNIT, UPWARD
from relatif.pipeline.influence.products import product
from relatif.schemas.errors import ModelError

PART_ENTRIES = 2**20
"""Entries of rows whose rounding is measured at once: 8 MiB."""

FARTHEST = 1000
"""Powers of two up to this exponent, and their reciprocals, are float64 numbers."""

with warnings.catch_warnings():
    # torch says once in a process, of the first matrix in such a form, that the form is in beta.
    warnings.simplefilter("ignore", UserWarning)
    torch.sparse_csr_tensor(torch.tensor([0, 1]), torch.tensor([0]), torch.ones(1), (1, 1), check_invariants=False)


@dataclass(frozen=True, eq=False)
class DenseContraction:
    """Gradients as dense rows: one product of length P per pair.

    ``rows`` [M, P] float64 holds (s + lambda)^-1 Q'g_t, the layers of ``weights`` side by side, over ``powers`` [M];
    ``screen`` holds W_t in the type of the screen, off by at most ``rounding``. ``between`` [P] are the weights C.
    """

    rows: Tensor
    powers: Tensor
    screen: Tensor
    rounding: float
    weights: Mapping[str, Tensor]
    between: Tensor

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> "DenseMeeting":
        """Lay a shard's gradients out as rows, [N, P]; ModelError where they are of other layers."""
        rows = torch.cat([gradients[name].dense().flatten(1).double() for name in self.weights], dim=1)
        if rows.shape[1] != self.rows.shape[1]:
            raise ModelError(
                f"expected gradients of {self.rows.shape[1]} parameters, found {rows.shape[1]}; give a shard the same "
                f"layers as the query block"
            )
        powers = _in_range(rows, norms)
        screen, errors = _rounded(rows, powers * reciprocal(norms), self.between, self.screen.dtype)
        return DenseMeeting(self, rows, powers, screen, self._errors(errors))

    def _errors(self, of_shard: Tensor) -> Tensor:
        """Return what both roundings and a float32 sum change at most, [N], for e_n [N]."""
        both = of_shard + self.rounding * (1 + of_shard)
        summed = (self.rows.shape[1] + 8) * FLOAT32_UNIT
        return (both + summed * (1 + of_shard) * (1 + self.rounding)).float()


@dataclass(frozen=True, eq=False)
class DenseMeeting:
    """The block's rows beside a shard's: gradients [N, P] float64 over ``powers`` [N], and W_n in the screen's type.

    ``errors`` [N] float32 bound what a tile is off by before it is returned in that type.
    """

    block: DenseContraction
    rows: Tensor
    powers: Tensor
    screen: Tensor
    errors: Tensor

    def tile(self, rows: slice) -> Tensor:
        """Return the products, [m, N]."""
        return product(self.block.screen[rows], self.screen)

    def error(self, tile: Tensor) -> Tensor:
        """Return the bound, [N]; [m, N] where products are returned in a type narrower than float32."""
        if self.screen.dtype == torch.float32:
            return self.errors
        unit = torch.finfo(self.screen.dtype).eps / 2
        return torch.add(self.errors, tile.abs(), alpha=unit * (1 + 2 * unit))

    @property
    def nbytes(self) -> int:
        """Return the size of the shard's rows in both types."""
        return self.rows.nbytes + self.screen.nbytes

    def closer(self, rows: slice, pairs: Tensor) -> None:
        """Return None."""

    def exact(self, values: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return influences from the float64 rows, [B]."""
        found = pair_products(self.block.rows[rows], self.rows, pairs)
        return found * self.block.powers[rows][pairs[0]] * self.powers[pairs[1]]


def dense_contraction(
    rows: Tensor, norms: Tensor, weights: Mapping[str, Tensor], dtype: torch.dtype
) -> DenseContraction:
    """Return the contraction of rows C g_t [M, P] float64, which it keeps and scales in place, and |w_t| [M].

    Pairs are screened in the given type.
    """
    between = torch.cat([each.flatten() for each in weights.values()]).double()
    powers = _in_range(rows, norms)
    screen, errors = _rounded(rows, powers * reciprocal(norms), 1 / between, dtype)
    return DenseContraction(rows, powers, screen, float(errors.max()), weights, between)


def pair_products(left: Tensor, right: Tensor, pairs: Tensor) -> Tensor:
    """Return the inner products of some pairs of rows, [B]: rows ``pairs`` [2, B] of [M, P] and [N, P].

    A pair's sum is always taken in the same order, whatever other pairs are asked for.

    >>> left, right = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> pair_products(left, right, torch.tensor([[0, 0], [1, 0]]))
    tensor([17., 11.])
    """
    order = pairs[0].argsort(stable=True)
    lines, columns = pairs[0][order], pairs[1][order]
    starts = torch.zeros(len(left) + 1, dtype=torch.int64, device=left.device)
    starts[1:] = torch.bincount(lines, minlength=len(left)).cumsum(0)
    places = torch.sparse_csr_tensor(
        starts, columns, left.new_zeros(len(columns)), (len(left), len(right)), check_invariants=False
    )
    values = torch.empty_like(places.values())
    values[order] = torch.sparse.sampled_addmm(places, left, right.T, beta=0.0).values()
    return values


def _in_range(rows: Tensor, norms: Tensor) -> Tensor:
    """Divide rows [N, P] float64 in place by the powers of two next to their ``norms`` [N]; return these, [N]."""
    exponents = torch.frexp(norms).exponent.clamp(-FARTHEST, FARTHEST)
    powers = torch.ldexp(torch.ones_like(norms), exponents)
    rows /= powers[:, None]
    return powers


def _rounded(rows: Tensor, scale: Tensor, weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return rows [N, P] times ``scale`` [N] in a type, and by how much that is off times ``sqrt(weights)``, [N]."""
    screen, squares = rows.new_empty(rows.shape, dtype=dtype), torch.empty_like(scale)
    for part in torch.arange(len(rows)).split(max(1, PART_ENTRIES // max(1, rows.shape[1]))):
        chosen = slice(int(part[0]), int(part[-1]) + 1)
        exact = rows[chosen] * scale[chosen, None]
        screen[chosen] = exact
        squares[chosen] = exact.sub_(screen[chosen]).square_() @ weights
    return screen, squares.sqrt() * UPWARD
