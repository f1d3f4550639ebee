"""Low-rank form of an inverse spectrum: how many inner products an influence really needs.

Axes: O outputs, I inputs of a layer, R rank. For a layer applied at one position, with rotated output gradients d and
rotated inputs a, and C = 1 / (s + lambda) [O, I],

    influence = sum_oi C[o, i] d_t[o] d_n[o] a_t[i] a_n[i]
              = sum_r (sum_o u[r, o] d_t[o] d_n[o]) (sum_i v[r, i] a_t[i] a_n[i])      when C = sum_r u[r] x v[r],

which takes R products of length I instead of O of them. C is smooth in its eigenvalues, so a small R is accurate.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class LowRank:
    """C ~ sum_r output_factors[r] x input_factors[r], with shapes [R, O] and [R, I].

    ``error`` bounds |C~ - C| / C over all entries; ``amplification`` bounds sum_r |u[r]| x |v[r]| / C, by which errors
    made inside the R products can grow.
    """

    output_factors: Tensor
    input_factors: Tensor
    error: float
    amplification: float

    @property
    def rank(self) -> int:
        """Return R."""
        return len(self.output_factors)


def low_rank_forms(inverse_spectrum: Tensor) -> Iterator[LowRank]:
    """Yield the forms of rank 1, 2, ... of a positive [O, I] matrix whose largest relative errors are near the least.

    One singular value decomposition serves all of them. Rows and columns are scaled to be alike first, so that the
    decomposition, which bounds absolute errors, works on relative ones. The bounds are measured on the forms, in
    float64. Here 9 products of length 60 stand for 40 of them:

    >>> eigenvalues = torch.logspace(-4, 0, 40)[:, None] * torch.logspace(-4, 0, 60)
    >>> forms = low_rank_forms(1 / (eigenvalues + 0.001))
    >>> next(form.rank for form in forms if form.error < 0.01)
    9
    """
    matrix = inverse_spectrum.double()
    # Divided by the geometric mean of its extremes, a column (then a row) reaches as far above 1 as below, in ratio.
    columns = (matrix.amax(0) * matrix.amin(0)).sqrt()
    rows = ((matrix / columns).amax(1) * (matrix / columns).amin(1)).sqrt()
    left, values, right = torch.linalg.svd(matrix / columns / rows[:, None], full_matrices=False)
    # The scaling goes back into the factors.
    outputs, inputs = (left * values * rows[:, None]).T.contiguous(), right * columns
    # Relative to the matrix: what the terms so far leave of it, and how large they are together.
    rest, sizes = torch.ones_like(matrix), torch.zeros_like(matrix)
    for rank in range(1, len(values) + 1):
        term = torch.outer(outputs[rank - 1], inputs[rank - 1]) / matrix
        rest -= term
        sizes += term.abs_()
        yield LowRank(outputs[:rank], inputs[:rank], error=float(rest.abs().max()), amplification=float(sizes.max()))
