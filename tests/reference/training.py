"""The optimum of regularised softmax regression by full Newton steps in float64: small problems only.

Meant for P up to about 300. Objective: ``sum_i w_i loss_i + weight_decay / 2 * ||theta||^2``, ``w_i = 1/n`` unless
given, biases decayed as well.
N examples, C classes, I inputs with the constant 1, P = C * I.
"""

import numpy as np
from numpy.typing import ArrayLike

from tests.reference.softmax import Array, Labels, gradients, losses, probabilities, with_ones

GRADIENT_NORM = 1e-12
MAX_STEPS = 100


def objective(
    block: Array, inputs: ArrayLike, labels: Labels, *, weight_decay: float, weights: Array | None = None
) -> float:
    """Return the regularised loss of ``block [C, I]``, nats."""
    per_example = losses(block, inputs, labels)
    return float(_weights(weights, len(per_example)) @ per_example + weight_decay / 2 * (block**2).sum())


def gradient(
    block: Array, inputs: ArrayLike, labels: Labels, *, weight_decay: float, weights: Array | None = None
) -> Array:
    """Return the objective's gradient, ``[P]``."""
    per_example = gradients(block, inputs, labels)
    return _weights(weights, len(per_example)) @ per_example + weight_decay * block.reshape(-1)


def hessian(block: Array, inputs: ArrayLike, *, weight_decay: float = 0.0, weights: Array | None = None) -> Array:
    """Return the objective's Hessian, ``sum_i w_i (diag p_i - p_i p_i') kron a_i a_i' + weight_decay I``, ``[P, P]``.

    It does not depend on the labels (canonical link).
    """
    folded = with_ones(inputs)
    total = weight_decay * np.eye(block.size)
    for weight, p, a in zip(_weights(weights, len(folded)), probabilities(block, inputs), folded, strict=True):
        total += weight * np.kron(np.diag(p) - np.outer(p, p), np.outer(a, a))
    return total


def optimum(
    inputs: ArrayLike, labels: Labels, classes: int, *, weight_decay: float, weights: Array | None = None
) -> Array:
    """Return the block ``[C, I]`` where the gradient's l2 norm is at most 1e-12, starting from zero.

    ``weights [N]`` may be zero or negative for single examples (leaving out, Eq. 5). Raises ValueError without weight
    decay, where the optimum is not unique, and RuntimeError where Newton does not converge.
    """
    if weight_decay <= 0:
        raise ValueError(f"expected weight_decay > 0 (else the optimum is not unique), found {weight_decay}")
    block = np.zeros((classes, with_ones(inputs).shape[1]))
    for _ in range(MAX_STEPS):
        slope = gradient(block, inputs, labels, weight_decay=weight_decay, weights=weights)
        if np.linalg.norm(slope) <= GRADIENT_NORM:
            return block
        curvature = hessian(block, inputs, weight_decay=weight_decay, weights=weights)
        step = -np.linalg.solve(curvature, slope).reshape(block.shape)
        length = 1.0
        start = objective(block, inputs, labels, weight_decay=weight_decay, weights=weights)
        # Near the optimum the objective no longer resolves the gain: the slack lets the full step pass.
        while objective(block + length * step, inputs, labels, weight_decay=weight_decay, weights=weights) > (
            start + 1e-14 * max(1.0, abs(start))
        ):
            length /= 2
        block = block + length * step
    raise RuntimeError(
        f"expected a gradient norm of {GRADIENT_NORM} within {MAX_STEPS} Newton steps, "
        f"found {np.linalg.norm(slope)}; raise weight_decay or scale the inputs"
    )


def _weights(weights: Array | None, examples: int) -> Array:
    return np.full(examples, 1.0 / examples) if weights is None else weights
