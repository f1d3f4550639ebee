"""A soft-margin SVM without bias, from its kernel alone: dual, decision values, scores of Appendix D.

The primal is ``1/2 ||w||^2 + C sum_i max(0, 1 - y_i <w, psi(x_i)>)`` with labels -1 and 1; psi is never formed here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.reference.softmax import Array

Signs = NDArray[np.int64]

SWEEPS = 20_000
EDGE = 1e-9
"""How far from the margin an example still lies on it: the dual is solved to an order or more below that."""


def polynomial_kernel(a: Array, b: Array, degree: int) -> Array:
    """Return ``(1 + <a, b>)^degree`` for rows, ``[A, B]``."""
    return (1.0 + a @ b.T) ** degree


@dataclass(frozen=True)
class SvmSolution:
    """Dual variables in [0, C], one per training example, and the margins ``y_i <w, psi(x_i)>``."""

    alphas: Array
    margins: Array
    bound: float

    @property
    def support(self) -> NDArray[np.bool_]:
        """Examples on the margin, inside it or misclassified: ``y_i <w, psi(x_i)> <= 1``."""
        return self.margins <= 1.0 + EDGE


def solve_dual(kernel: Array, signs: Signs, bound: float) -> SvmSolution:
    """Maximize ``sum alpha - 1/2 sum alpha_i alpha_j y_i y_j K_ij`` over 0 <= alpha <= bound.

    Exact coordinate steps find which variables lie between their bounds; those then solve their linear equations.
    Raises ValueError where that does not lead to the optimum.
    """
    matrix = kernel * np.outer(signs, signs)
    alphas = np.zeros(len(signs))
    for _ in range(SWEEPS):
        before = alphas.copy()
        for i in range(len(alphas)):
            alphas[i] = min(max(alphas[i] + (1.0 - matrix[i] @ alphas) / matrix[i, i], 0.0), bound)
        if np.abs(alphas - before).max() < 1e-10 * bound:
            break
    free = (alphas > 1e-6 * bound) & (alphas < (1 - 1e-6) * bound)
    alphas = np.where(free, 0.0, np.where(alphas > bound / 2, bound, 0.0))
    alphas[free] = np.linalg.solve(matrix[np.ix_(free, free)], 1.0 - matrix[free] @ alphas)
    margins = matrix @ alphas
    fault = kkt_fault(alphas, margins, bound)
    if fault > EDGE / 10:
        raise ValueError(f"expected the optimum of the dual, found its conditions broken by {fault}; add sweeps")
    return SvmSolution(alphas, margins, bound)


def kkt_fault(alphas: Array, margins: Array, bound: float) -> float:
    """Return by how much the optimality conditions are broken: of the bounds, and of the margins where they hold."""
    outside = np.maximum(np.maximum(-alphas, alphas - bound), 0.0)
    below = np.where(alphas < bound, np.maximum(1.0 - margins, 0.0), 0.0)
    above = np.where(alphas > 0, np.maximum(margins - 1.0, 0.0), 0.0)
    return float(np.max([outside.max(), below.max(), above.max()]))


def appendix_d_influence(kernel: Array, test_signs: Signs, signs: Signs, support: NDArray[np.bool_]) -> Array:
    """Return ``y_i y_t K(x_i, x_t)`` for support vectors and 0 for others, ``[M, N]``, of ``kernel [M, N]``."""
    return np.where(support, np.outer(test_signs, signs) * kernel, 0.0)


def appendix_d_relatif(influence: Array, squared_norms: Array) -> Array:
    """Return influence divided by ``sqrt(K(x_i, x_i))``, ``[M, N]``; ``squared_norms [N]`` are ``K(x_i, x_i)``."""
    return influence / np.sqrt(squared_norms)
