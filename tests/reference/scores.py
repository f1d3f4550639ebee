"""Scores, rankings and their statistics from explicit dense matrices and Python loops.

M test inputs, N training examples, P parameters. ``inverse [P, P]`` is ``(H + lambda I)^-1``; gradients are rows.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tests.reference.softmax import Array

Indices = NDArray[np.int64]


def influence(inverse: Array, test_gradients: Array, train_gradients: Array) -> Array:
    """Return ``I[t, i] = g_t' (H + lambda I)^-1 g_i``, ``[M, N]`` (Eq. 3, Eq. 6); positive is helpful."""
    return np.array([[float(g_t @ inverse @ g_i) for g_i in train_gradients] for g_t in test_gradients])


def self_influence(inverse: Array, gradients: Array) -> Array:
    """Return ``I[i, i] = g_i' (H + lambda I)^-1 g_i``, one per row of ``gradients``."""
    return np.array([float(g @ inverse @ g) for g in gradients])


def theta_norm(inverse: Array, gradients: Array) -> Array:
    """Return ``||(H + lambda I)^-1 g_i||``, one per row of ``gradients``."""
    return np.array([math.sqrt(sum(float(v) ** 2 for v in inverse @ g)) for g in gradients])


def theta_relatif(inverse: Array, test_gradients: Array, train_gradients: Array) -> Array:
    """Return ``I[t, i] / ||(H + lambda I)^-1 g_i||``, ``[M, N]`` (Def. 3.2); no gradient may be zero."""
    return _divided(influence(inverse, test_gradients, train_gradients), theta_norm(inverse, train_gradients))


def l_relatif(inverse: Array, test_gradients: Array, train_gradients: Array) -> Array:
    """Return ``I[t, i] / sqrt(I[i, i])``, ``[M, N]`` (Def. 3.4); no gradient may be zero."""
    norms = np.sqrt(self_influence(inverse, train_gradients))
    return _divided(influence(inverse, test_gradients, train_gradients), norms)


def l_relatif_cosine(inverse: Array, test_gradients: Array, train_gradients: Array) -> Array:
    """Return the cosine of g_t and g_i under ``<a, b> = a' (F + lambda I)^-1 b``, ``[M, N]`` (section 3.3).

    l-RelatIF is this times ``sqrt(I[t, t])``, so both rank the training examples of a test input alike.
    """

    def dot(a: Array, b: Array) -> float:
        return float(a @ inverse @ b)

    return np.array(
        [[dot(t, i) / (math.sqrt(dot(t, t)) * math.sqrt(dot(i, i))) for i in train_gradients] for t in test_gradients]
    )


def gradient_cosine(test_gradients: Array, train_gradients: Array) -> Array:
    """Return the cosine of g_t and g_i, ``[M, N]`` (Hanawa et al. 2021); no gradient may be zero."""
    return l_relatif_cosine(np.eye(test_gradients.shape[1]), test_gradients, train_gradients)


def nearest_neighbour(test_inputs: ArrayLike, train_inputs: ArrayLike) -> Array:
    """Return the negative l2 distance of the inputs, ``[M, N]``, in the inputs' own unit, by explicit differences."""
    test, train = _rows(test_inputs), _rows(train_inputs)
    return np.array([[-math.sqrt(float(((t - i) ** 2).sum())) for i in train] for t in test])


def top_k(scores: ArrayLike, k: int) -> tuple[Indices, Array]:
    """Return training indices and scores of the k most positive per row, ``[M, k]`` each.

    Ties go to the smaller index. Raises ValueError where a score is not finite or k exceeds N.
    """
    values = np.asarray(scores, np.float64)
    if not np.isfinite(values).all() or not 1 <= k <= values.shape[1]:
        raise ValueError(f"expected finite scores and 1 <= k <= {values.shape[1]}, found k = {k}")
    indices = []
    for row in values.tolist():
        ranked = sorted((-score, index) for index, score in enumerate(row))
        indices.append([index for _, index in ranked[:k]])
    chosen = np.array(indices, np.int64)
    return chosen, np.take_along_axis(values, chosen, axis=1)


def influence_set(top: Sequence[Sequence[int]] | Indices, k: int) -> set[int]:
    """Return the distinct training indices among the first k of every row of ``top [M, >= k]`` (Table 1)."""
    return {int(i) for row in top for i in row[:k]}


def cardinality_ratio(top: Sequence[Sequence[int]] | Indices, k: int) -> float:
    """Return the influence set's size divided by ``k * M``, the size without repetition."""
    return len(influence_set(top, k)) / (k * len(top))


def probability_mean_std(members: set[int], probabilities: ArrayLike) -> tuple[float, float]:
    """Return mean and standard deviation (divisor: the set's size) of the members' probability of their own label."""
    every = np.asarray(probabilities, np.float64).tolist()
    values = [every[i] for i in sorted(members)]
    mean = math.fsum(values) / len(values)
    return mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))


def overlap(top_a: Sequence[Sequence[int]] | Indices, top_b: Sequence[Sequence[int]] | Indices, k: int) -> float:
    """Return the mean over test inputs of the share of the first k that both have, 0 to 1 (section 4.3)."""
    shares = []
    for row_a, row_b in zip(top_a, top_b, strict=True):
        shares.append(len({int(i) for i in row_a[:k]} & {int(i) for i in row_b[:k]}) / k)
    return math.fsum(shares) / len(shares)


def _divided(numerators: Array, denominators: Array) -> Array:
    rows = numerators.tolist()
    return np.array([[v / d for v, d in zip(row, denominators.tolist(), strict=True)] for row in rows])


def _rows(inputs: ArrayLike) -> Array:
    values = np.asarray(inputs, np.float64)
    return values.reshape(len(values), -1)
