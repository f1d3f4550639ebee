"""Low-rank form of an inverse spectrum: how many inner products an influence really needs.

Axes: O outputs, I inputs of a layer, R rank. For a layer applied at one position, with rotated output gradients d and
rotated inputs a, and C = 1 / (s + lambda) [O, I],

    influence = sum_oi C[o, i] d_t[o] d_n[o] a_t[i] a_n[i]
              = sum_r (sum_o u[r, o] d_t[o] d_n[o]) (sum_i v[r, i] a_t[i] a_n[i])      when C = sum_r u[r] x v[r],

which takes R products of length I instead of O of them. C is smooth in its eigenvalues, so a small R is accurate.
"""

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


def low_rank(inverse_spectrum: Tensor, rank: int) -> LowRank:
    """Return the rank-R form of a positive [O, I] matrix whose largest relative error is near the least.

    Rows and columns are scaled to be alike first, so that the singular value decomposition, which bounds absolute
    errors, works on relative ones. The bounds returned are measured on the result, in float64.
    """
    matrix = inverse_spectrum.double()
    # Divided by the geometric mean of its extremes, a column (then a row) reaches as far above 1 as below, in ratio.
    columns = (matrix.amax(0) * matrix.amin(0)).sqrt()
    rows = ((matrix / columns).amax(1) * (matrix / columns).amin(1)).sqrt()
    left, values, right = torch.linalg.svd(matrix / columns / rows[:, None], full_matrices=False)
    # The scaling goes back into the factors.
    output_factors = (left[:, :rank] * values[:rank] * rows[:, None]).T.contiguous()
    input_factors = (right[:rank] * columns).contiguous()
    approximation = output_factors.T @ input_factors
    return LowRank(
        output_factors,
        input_factors,
        error=float(((approximation - matrix) / matrix).abs().max()),
        amplification=float(((output_factors.abs().T @ input_factors.abs()) / matrix).max()),
    )


def smallest_low_rank(inverse_spectrum: Tensor, tolerance: float) -> LowRank:
    """Return the form of least rank whose relative error is at most ``tolerance``: at full rank the matrix itself.

    Here 9 products of length 60 stand for 40 of them:

    >>> eigenvalues = torch.logspace(-4, 0, 40)[:, None] * torch.logspace(-4, 0, 60)
    >>> form = smallest_low_rank(1 / (eigenvalues + 0.001), tolerance=0.01)
    >>> len(form.output_factors), form.error < 0.01
    (9, True)
    """
    # Upwards, because the rank that suffices is small.
    for rank in range(1, min(inverse_spectrum.shape)):
        form = low_rank(inverse_spectrum, rank)
        if form.error <= tolerance:
            return form
    return full_rank(inverse_spectrum)


def full_rank(inverse_spectrum: Tensor) -> LowRank:
    """Return the matrix itself as a form, row by row or column by column: no error, and no cancellation of parts."""
    matrix = inverse_spectrum.double()
    # The identity belongs on the shorter side: it decides the number of products.
    if matrix.shape[0] <= matrix.shape[1]:
        return LowRank(torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), matrix, 0.0, 1.0)
    return LowRank(
        matrix.T.contiguous(), torch.eye(matrix.shape[1], dtype=matrix.dtype, device=matrix.device), 0.0, 1.0
    )
