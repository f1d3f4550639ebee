"""Softmax (logistic) regression by hand in NumPy float64, without automatic differentiation.

N examples, C classes, D input features, I = D + 1 inputs of the layer (the bias is the weight of a constant 1 that
stands last), P = C * I parameters. A gradient is flattened row-major: entry ``[o, i]`` of the block is number
``o * I + i`` of the vector.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Labels = Sequence[int] | NDArray[np.int64]


def fold(weight: ArrayLike, bias: ArrayLike) -> Array:
    """Return the layer's block ``[O, I] = [weight | bias]`` of ``weight [O, D]`` and ``bias [O]``."""
    return np.concatenate([np.asarray(weight, np.float64), np.asarray(bias, np.float64)[:, None]], axis=1)


def with_ones(inputs: ArrayLike) -> Array:
    """Return ``inputs [N, D]`` as float64 ``[N, D + 1]`` with the constant 1 as last column."""
    values = np.asarray(inputs, np.float64)
    return np.concatenate([values, np.ones((len(values), 1))], axis=1)


def log_probabilities_of(logits: Array) -> Array:
    """Return log softmax of ``logits [N, C]``, nats, row by row."""
    rows = []
    for row in logits:
        shifted = row - row.max()
        rows.append(shifted - np.log(np.exp(shifted).sum()))
    return np.array(rows)


def logits(block: Array, inputs: ArrayLike) -> Array:
    """Return ``W x + b``, ``[N, C]``, of ``block [C, I]`` and ``inputs [N, D]``."""
    return np.array([block @ row for row in with_ones(inputs)])


def probabilities(block: Array, inputs: ArrayLike) -> Array:
    """Return the model's probabilities ``[N, C]``; rows sum to 1."""
    return np.exp(log_probabilities_of(logits(block, inputs)))


def losses(block: Array, inputs: ArrayLike, labels: Labels) -> Array:
    """Return the negative log-likelihood of each label, ``[N]``, nats."""
    log_p = log_probabilities_of(logits(block, inputs))
    return np.array([-row[label] for row, label in zip(log_p, labels, strict=True)])


def output_gradient(probability: Array, label: int) -> Array:
    """Return ``d loss / d logits = p - e_label``, ``[C]``, of one example's ``probability [C]``."""
    gradient = probability.copy()
    gradient[label] -= 1.0
    return gradient


def gradients(block: Array, inputs: ArrayLike, labels: Labels) -> Array:
    """Return every example's loss gradient ``g_i`` with respect to ``[W | b]``, ``[N, P]``."""
    p = probabilities(block, inputs)
    rows = []
    for probability, row, label in zip(p, with_ones(inputs), labels, strict=True):
        rows.append(np.outer(output_gradient(probability, int(label)), row).reshape(-1))
    return np.array(rows)


def class_output_gradients(probability: Array) -> Array:
    """Return ``p - e_y`` for every example and class y, ``[N, C, C]`` (last axis: outputs), of ``[N, C]``."""
    classes = probability.shape[1]
    return np.array([[output_gradient(row, y) for y in range(classes)] for row in probability])


def class_gradients(block: Array, inputs: ArrayLike) -> Array:
    """Return the loss gradient of every example at every class, ``[N, C, P]``."""
    per_class = [gradients(block, inputs, [y] * len(with_ones(inputs))) for y in range(len(block))]
    return np.stack(per_class, axis=1)
