"""Small seeded problems for tests: softmax regression, an MLP, 8-bit images, and gradients in an eigenbasis.

N training and M test examples, C classes, D input features. The same arguments give the same problem.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tests.reference.softmax import Array
from tests.reference.training import optimum


@dataclass(frozen=True)
class SoftmaxProblem:
    """``block [C, D + 1]``; inputs ``[N, D]`` and ``[M, D]``; labels ``[N]`` and ``[M]``."""

    block: Array
    train_inputs: Array
    train_labels: NDArray[np.int64]
    test_inputs: Array
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class MlpProblem:
    """``layers`` of ``(W [O, D], b [O])`` with ``activation`` (tanh or relu) between; inputs and labels as above."""

    layers: list[tuple[Array, Array]]
    activation: str
    train_inputs: Array
    train_labels: NDArray[np.int64]
    test_inputs: Array
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class ImageProblem:
    """8-bit grey images ``[N, side, side]`` and ``[M, side, side]`` with labels; some training labels are wrong."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class RotatedProblem:
    """Gradients of layers at one position in their curvature's eigenbasis; a gradient is an outer product.

    Per layer ``test`` and ``train`` hold ``(outputs [M, O], inputs [M, I])`` and the same ``[N, ...]``, ``spectra``
    ``[O, I]``. The curvature is diagonal: ``H + lambda I = diag(s + lambda)``.
    """

    test: list[tuple[Array, Array]]
    train: list[tuple[Array, Array]]
    spectra: list[Array]
    damping: float

    def inverse(self) -> Array:
        """Return the diagonal of ``(H + lambda I)^-1``, ``[P]``."""
        return np.concatenate([1.0 / (spectrum + self.damping).reshape(-1) for spectrum in self.spectra])


def random_softmax(
    seed: int = 0, *, train: int = 60, test: int = 15, features: int = 6, classes: int = 4
) -> SoftmaxProblem:
    """Return overlapping Gaussian classes and a random, untrained block."""
    rng = np.random.default_rng(seed)
    inputs, labels = _clusters(rng, train + test, features, classes)
    block = 0.5 * rng.standard_normal((classes, features + 1))
    return SoftmaxProblem(block, inputs[:train], labels[:train], inputs[train:], labels[train:])


def trained_softmax(
    seed: int = 0,
    *,
    train: int = 60,
    test: int = 15,
    features: int = 6,
    classes: int = 4,
    weight_decay: float = 1e-2,
) -> SoftmaxProblem:
    """Return the same data as ``random_softmax`` with the block at its optimum under ``weight_decay``."""
    problem = random_softmax(seed, train=train, test=test, features=features, classes=classes)
    block = optimum(problem.train_inputs, problem.train_labels, classes, weight_decay=weight_decay)
    return SoftmaxProblem(block, problem.train_inputs, problem.train_labels, problem.test_inputs, problem.test_labels)


def random_mlp(
    seed: int = 0, *, widths: tuple[int, ...] = (5, 4, 3), activation: str = "tanh", train: int = 40, test: int = 10
) -> MlpProblem:
    """Return Gaussian classes and a random MLP; ``widths`` are features, hidden widths and classes."""
    rng = np.random.default_rng(seed)
    inputs, labels = _clusters(rng, train + test, widths[0], widths[-1])
    layers = []
    for fan_in, fan_out in pairwise(widths):
        layers.append((rng.standard_normal((fan_out, fan_in)) / np.sqrt(fan_in), 0.3 * rng.standard_normal(fan_out)))
    return MlpProblem(layers, activation, inputs[:train], labels[:train], inputs[train:], labels[train:])


def images(
    seed: int = 0, *, train: int = 80, test: int = 20, side: int = 5, classes: int = 4, wrong: int = 3
) -> ImageProblem:
    """Return noisy copies of one template per class, clipped to 0..255; the first ``wrong`` labels are shifted by 1."""
    rng = np.random.default_rng(seed)
    templates = rng.uniform(0, 255, (classes, side, side))
    labels = rng.permutation(np.arange(train + test) % classes).astype(np.int64)
    noisy = templates[labels] + 60 * rng.standard_normal((train + test, side, side))
    pixels = np.clip(np.rint(noisy), 0, 255).astype(np.uint8)
    labels[:wrong] = (labels[:wrong] + 1) % classes
    return ImageProblem(pixels[:train], labels[:train], pixels[train:], labels[train:])


def rotated(
    seed: int = 0,
    *,
    kind: str = "plain",
    shapes: tuple[tuple[int, int], ...] = ((3, 6), (4, 5)),
    test: int = 9,
    train: int = 40,
) -> RotatedProblem:
    """Return Gaussian gradients of layers with ``shapes`` (O, I), made difficult by ``kind``, one of ``KINDS``."""
    rng = np.random.default_rng(seed)

    def factors(count: int) -> list[tuple[Array, Array]]:
        return [(rng.standard_normal((count, o)), rng.standard_normal((count, i))) for o, i in shapes]

    spectra = [np.outer(rng.uniform(0, 2, o), rng.uniform(0, 2, i) ** 4) for o, i in shapes]
    return KINDS[kind](RotatedProblem(factors(test), factors(train), spectra, damping=1e-2), rng)


Difficulty = Callable[[RotatedProblem, np.random.Generator], RotatedProblem]


def _spread(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Eigenvalues of any order of magnitude from 1e-9 to 1e3, as no Kronecker product has them."""
    return replace(problem, spectra=[10 ** rng.uniform(-9, 3, s.shape) for s in problem.spectra], damping=1e-9)


def _kronecker(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Kronecker products of eigenvalues over six orders each; the outputs of the smallest ones carry no gradient."""
    spectra = [
        np.outer(np.sort(10 ** rng.uniform(-6, 0, s.shape[0])), np.sort(10 ** rng.uniform(-5, 2, s.shape[1])))
        for s in problem.spectra
    ]
    null = np.array([1e-17] + [1.0] * max(s.shape[0] for s in spectra))
    test, train = (
        [(outputs * null[: outputs.shape[1]], inputs) for outputs, inputs in part]
        for part in (problem.test, problem.train)
    )
    return replace(problem, test=test, train=train, spectra=spectra, damping=1e-3)


def _heavy_tailed(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Gradients whose norms, and entries, differ by many orders of magnitude."""

    def scaled(part: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        sizes = np.exp(np.clip(3 * rng.standard_cauchy(len(part[0][0])), -15, 15))[:, None]
        return [(outputs * sizes, inputs * np.exp(2 * rng.standard_normal(inputs.shape))) for outputs, inputs in part]

    return replace(problem, test=scaled(problem.test), train=scaled(problem.train))


def _cancelling(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Training gradients orthogonal in whitened space, but for a part in a million, to a test gradient each."""
    train = []
    layers = zip(problem.test, problem.train, problem.spectra, strict=True)
    for (test_outputs, test_inputs), (outputs, inputs), spectrum in layers:
        of = np.arange(len(outputs)) % len(test_outputs)
        z = test_outputs[of] * ((test_inputs[of] * inputs) @ (1 / (spectrum + problem.damping)).T)
        along = (outputs * z).sum(axis=1, keepdims=True) / (z * z).sum(axis=1, keepdims=True)
        train.append((outputs - (1 - 1e-6) * along * z, inputs))
    return replace(problem, train=train)


def _zeros(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Some gradients are zero, some in one layer alone."""

    def emptied(part: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        kept = []
        for layer, (outputs, inputs) in enumerate(part):
            row = np.arange(len(outputs))
            kept.append((np.where(((row % 4 == 1) | (row % 5 == layer + 2))[:, None], 0.0, outputs), inputs))
        return kept

    return replace(problem, test=emptied(problem.test), train=emptied(problem.train))


def _duplicates(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Every training gradient comes several times."""
    count = len(problem.train[0][0])
    chosen = rng.integers(0, max(1, count // 5), count)
    return replace(problem, train=[(outputs[chosen], inputs[chosen]) for outputs, inputs in problem.train])


def _tiny(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Training gradients down to 1e-60, as those of confident predictions are: far below the range of float32."""
    sizes = 10.0 ** rng.uniform(-60, 0, len(problem.train[0][0]))[:, None]
    return replace(problem, train=[(outputs * sizes, inputs) for outputs, inputs in problem.train])


def _whole(problem: RotatedProblem, rng: np.random.Generator) -> RotatedProblem:
    """Small integers and powers of two, a few of the gradients zero or repeated: float64 arithmetic makes no error."""

    def integers(part: list[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
        chosen = rng.integers(0, len(part[0][0]), len(part[0][0]))
        rounded = [(rng.integers(-2, 3, o.shape), rng.integers(-2, 3, i.shape)) for o, i in part]
        return [(o[chosen].astype(np.float64), i[chosen].astype(np.float64)) for o, i in rounded]

    spectra = [2.0 ** rng.integers(-1, 6, s.shape) - 0.5 for s in problem.spectra]
    return RotatedProblem(integers(problem.test), integers(problem.train), spectra, damping=0.5)


KINDS: dict[str, Difficulty] = {
    "plain": lambda problem, _: problem,
    "spread": _spread,
    "kronecker": _kronecker,
    "heavy tailed": _heavy_tailed,
    "cancelling": _cancelling,
    "zeros": _zeros,
    "duplicates": _duplicates,
    "tiny": _tiny,
    "whole": _whole,
}


def _clusters(rng: np.random.Generator, count: int, features: int, classes: int) -> tuple[Array, NDArray[np.int64]]:
    centres = rng.standard_normal((classes, features))
    labels = rng.permutation(np.arange(count) % classes).astype(np.int64)
    return centres[labels] + rng.standard_normal((count, features)), labels
