"""Dense curvatures: Fisher (Eq. 7), K-FAC, EK-FAC and identity, each as an explicit float64 matrix.

N examples, C classes, O outputs and I inputs of one linear layer (the constant 1 included), P = O * I parameters of the
layer in row-major order: ``[o, i]`` is number ``o * I + i``, hence ``F ~ B kron A``. Expectations are over the model's
own labels, summed exactly. Damping is ``+ lambda I`` on the whole matrix and nothing else.
"""

from collections.abc import Sequence

import numpy as np

from tests.reference.softmax import Array


def fisher(class_gradients: Array, probabilities: Array) -> Array:
    """Return Eq. 7, ``1/n sum_i sum_y p(y|x_i) g_iy g_iy'``, ``[P, P]``.

    ``class_gradients [N, C, P]``, ``probabilities [N, C]``. The sign of g does not matter, so losses serve for
    log-probabilities.
    """
    examples, classes, parameters = class_gradients.shape
    total = np.zeros((parameters, parameters))
    for i in range(examples):
        for y in range(classes):
            total += probabilities[i, y] * np.outer(class_gradients[i, y], class_gradients[i, y])
    return np.asarray(total / examples)


def kronecker_factors(inputs: Array, class_deltas: Array, probabilities: Array) -> tuple[Array, Array]:
    """Return ``A = 1/n sum a a'`` ``[I, I]`` and ``B = 1/n sum_i E_y delta delta'`` ``[O, O]`` of one layer.

    ``inputs [N, I]``, ``class_deltas [N, C, O]``, ``probabilities [N, C]``.
    """
    examples, classes, outputs = class_deltas.shape
    a = np.zeros((inputs.shape[1], inputs.shape[1]))
    b = np.zeros((outputs, outputs))
    for i in range(examples):
        a += np.outer(inputs[i], inputs[i])
        for y in range(classes):
            b += probabilities[i, y] * np.outer(class_deltas[i, y], class_deltas[i, y])
    return a / examples, b / examples


def kfac(a: Array, b: Array) -> Array:
    """Return the layer's curvature ``B kron A``, ``[P, P]``, undamped."""
    outputs, inputs = len(b), len(a)
    block = np.zeros((outputs * inputs, outputs * inputs))
    for o in range(outputs):
        for q in range(outputs):
            block[o * inputs : (o + 1) * inputs, q * inputs : (q + 1) * inputs] = b[o, q] * a
    return block


def kronecker_eigenbasis(a: Array, b: Array) -> Array:
    """Return Q ``[P, P]``, eigenvectors of ``B kron A`` as columns: column ``o * I + i`` is ``u_o kron v_i``.

    Eigenvectors are those of ``numpy.linalg.eigh``, eigenvalues ascending in each factor. Where a factor has equal
    eigenvalues they are one choice of many.
    """
    _, vectors_a = np.linalg.eigh(a)
    _, vectors_b = np.linalg.eigh(b)
    return np.kron(vectors_b, vectors_a)


def ekfac_spectrum(class_gradients: Array, probabilities: Array, eigenbasis: Array) -> Array:
    """Return ``s_j = 1/n sum_i E_y (q_j' g_iy)^2``, ``[P]``, for the columns q_j of ``eigenbasis [P, P]``."""
    examples, classes, parameters = class_gradients.shape
    spectrum = np.zeros(parameters)
    for i in range(examples):
        for y in range(classes):
            spectrum += probabilities[i, y] * (eigenbasis.T @ class_gradients[i, y]) ** 2
    return np.asarray(spectrum / examples)


def eigen_form(eigenbasis: Array, spectrum: Array) -> Array:
    """Return ``Q diag(s) Q'``, ``[P, P]``."""
    return eigenbasis @ np.diag(spectrum) @ eigenbasis.T


def ekfac(a: Array, b: Array, class_gradients: Array, probabilities: Array) -> Array:
    """Return the layer's EK-FAC curvature, ``[P, P]``, undamped: K-FAC's eigenbasis, measured spectrum.

    Defined only up to the choice of eigenvectors where a factor has equal eigenvalues (see ``kronecker_eigenbasis``);
    pass a basis of one's own to ``ekfac_spectrum`` and ``eigen_form`` to compare in that one.
    """
    basis = kronecker_eigenbasis(a, b)
    return eigen_form(basis, ekfac_spectrum(class_gradients, probabilities, basis))


def block_diagonal(blocks: Sequence[Array]) -> Array:
    """Return the matrix with one square block per layer on its diagonal, zero elsewhere."""
    size = sum(len(block) for block in blocks)
    whole = np.zeros((size, size))
    start = 0
    for block in blocks:
        whole[start : start + len(block), start : start + len(block)] = block
        start += len(block)
    return whole


def kfac_curvature(inputs: Sequence[Array], class_deltas: Sequence[Array], probabilities: Array) -> Array:
    """Return the block-diagonal K-FAC curvature of several layers, undamped, from per-layer inputs and deltas."""
    blocks = []
    for a_inputs, deltas in zip(inputs, class_deltas, strict=True):
        blocks.append(kfac(*kronecker_factors(a_inputs, deltas, probabilities)))
    return block_diagonal(blocks)


def ekfac_curvature(
    inputs: Sequence[Array], class_deltas: Sequence[Array], class_gradients: Sequence[Array], probabilities: Array
) -> Array:
    """Return the block-diagonal EK-FAC curvature of several layers, undamped."""
    blocks = []
    for a_inputs, deltas, gradients in zip(inputs, class_deltas, class_gradients, strict=True):
        a, b = kronecker_factors(a_inputs, deltas, probabilities)
        blocks.append(ekfac(a, b, gradients, probabilities))
    return block_diagonal(blocks)


def identity_curvature(parameters: int) -> Array:
    """Return ``H = 0``, ``[P, P]``: with damping 1 it is the identity (the paper's "gradient")."""
    return np.zeros((parameters, parameters))


def damped_inverse(curvature: Array, damping: float) -> Array:
    """Return ``(H + lambda I)^-1``, ``[P, P]``, by explicit inversion."""
    return np.asarray(np.linalg.inv(curvature + damping * np.eye(len(curvature))), np.float64)
