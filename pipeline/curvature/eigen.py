"""Curvatures in eigen form: basis x spectrum x damping, H + lambda I = Q diag(s + lambda) Q'.

Axes: N examples, O outputs, I inputs of a layer (bias folded), P parameters of all layers side by side, layer after
layer and each flattened row by row. Damping is added to the diagonal of the whole curvature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import DenseGradients, LayerGradients
from relatif.schemas.errors import ModelError, NumericalError

JOINT = "joint"
"""Name of the one block of a curvature that couples all layers."""


class Basis(Protocol):
    """An orthogonal basis Q of the parameters of a block."""

    def rotate(self, gradients: LayerGradients) -> LayerGradients:
        """Return Q'g."""
        ...

    def unrotate(self, rotated: LayerGradients) -> LayerGradients:
        """Return Qv for v = Q'g."""
        ...

    def to(self, device: torch.device | str) -> "Basis":
        """Return the same basis on another device."""
        ...


@dataclass(frozen=True)
class KroneckerBasis:
    """The orthogonal basis Q = Q_out x Q_in of one layer, [O, O] and [I, I], eigenvectors in columns.

    None is the identity: the basis of a side whose moment is diagonal.
    """

    output: Tensor | None
    input: Tensor | None

    def rotate(self, gradients: LayerGradients) -> LayerGradients:
        """Return Q'g."""
        return gradients.rotate(self.output, self.input)

    def unrotate(self, rotated: LayerGradients) -> LayerGradients:
        """Return Qv."""
        return rotated.rotate(_transposed(self.output), _transposed(self.input))

    def to(self, device: torch.device | str) -> "KroneckerBasis":
        """Return the same basis on another device."""
        output, input_ = (side if side is None else side.to(device) for side in (self.output, self.input))
        return KroneckerBasis(output, input_)


@dataclass(frozen=True)
class DenseBasis:
    """An orthogonal basis of all parameters side by side, [P, P], eigenvectors in columns."""

    vectors: Tensor

    def rotate(self, gradients: LayerGradients) -> LayerGradients:
        """Return Q'g, [N, 1, P]: 2 N P^2 operations."""
        # Gradients are rows, so Q'g is a product with Q from the right.
        return DenseGradients((gradients.dense().flatten(1) @ self.vectors)[:, None])

    def unrotate(self, rotated: LayerGradients) -> LayerGradients:
        """Return Qv, [N, 1, P]."""
        return DenseGradients((rotated.dense().flatten(1) @ self.vectors.T)[:, None])

    def to(self, device: torch.device | str) -> "DenseBasis":
        """Return the same basis on another device."""
        return DenseBasis(self.vectors.to(device))


@dataclass(frozen=True)
class LayerCurvature:
    """One block: a basis (None for the identity basis) and the spectrum s, [O, I] of a layer, or [1, P] of several."""

    basis: Basis | None
    spectrum: Tensor

    def rotate(self, gradients: LayerGradients) -> LayerGradients:
        """Return Q'g."""
        return gradients if self.basis is None else self.basis.rotate(gradients)

    def unrotate(self, rotated: LayerGradients) -> LayerGradients:
        """Return Qv."""
        return rotated if self.basis is None else self.basis.unrotate(rotated)

    def to(self, device: torch.device | str) -> "LayerCurvature":
        """Return the same block on another device."""
        return LayerCurvature(self.basis and self.basis.to(device), self.spectrum.to(device))


@dataclass(frozen=True)
class Curvature:
    """A block-diagonal curvature and its damping lambda: one block per layer, or JOINT alone for all ``layers``."""

    blocks: Mapping[str, LayerCurvature]
    damping: float

    @property
    def is_joint(self) -> bool:
        """Whether one block couples all layers."""
        return any(isinstance(block.basis, DenseBasis) for block in self.blocks.values())

    def rotate(self, gradients: Mapping[str, LayerGradients]) -> dict[str, LayerGradients]:
        """Return Q'g for every block."""
        given = {JOINT: side_by_side(gradients)} if self.is_joint else gradients
        return {name: block.rotate(given[name]) for name, block in self.blocks.items()}

    def inverse(self, name: str) -> Tensor:
        """Return 1 / (s + lambda) of a block, [O, I]."""
        return 1.0 / (self.blocks[name].spectrum + self.damping)

    def solve(self, gradients: Mapping[str, LayerGradients]) -> dict[str, Tensor]:
        """Return ``(H + lambda I)^-1 g`` of every layer, [N, O, I]."""
        solved = {}
        for name, rotated in self.rotate(gradients).items():
            # (H + lambda I)^-1 g = Q diag(1 / (s + lambda)) Q'g.
            scaled = DenseGradients(rotated.dense() * self.inverse(name))
            solved[name] = self.blocks[name].unrotate(scaled).dense()
        shapes = {name: gradient.shape for name, gradient in gradients.items()}
        return by_layer(solved[JOINT].flatten(1), shapes) if self.is_joint else solved

    def to(self, device: torch.device | str) -> "Curvature":
        """Return the same curvature on another device."""
        return Curvature({name: block.to(device) for name, block in self.blocks.items()}, self.damping)


def side_by_side(gradients: Mapping[str, LayerGradients]) -> LayerGradients:
    """Return the gradients of several layers as those of one block, [N, 1, P]."""
    return DenseGradients(torch.cat([gradient.dense().flatten(1) for gradient in gradients.values()], dim=1)[:, None])


def by_layer(rows: Tensor, shapes: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """Return rows [N, P] as the matrices [N, O, I] of the layers that lie side by side in them."""
    pieces = rows.split([outputs * inputs for outputs, inputs in shapes.values()], dim=1)
    return {name: piece.unflatten(1, shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}


def check_positive(curvature: Curvature) -> None:
    """Raise NumericalError, with the damping that would suffice, unless H + lambda I is positive definite.

    Only a Hessian can fail: Fishers have no negative eigenvalues.
    """
    smallest = min(float(block.spectrum.min()) for block in curvature.blocks.values())
    if smallest + curvature.damping <= 0:
        raise NumericalError(
            f"expected H + lambda I to be positive definite, found {smallest:.6g} as the smallest eigenvalue of H with "
            f"lambda = {curvature.damping:g}; set curvature.damping above {-smallest:.6g}, or choose the Fisher"
        )


@dataclass(frozen=True)
class Norms:
    """What scores are divided by, of N gradients g, [N] float64 each.

    ``gradient`` is |g|; ``self_influence`` is ``g' (H + lambda I)^-1 g``, the squared denominator of l-RelatIF
    (Def. 3.4); ``theta`` is ``||(H + lambda I)^-1 g||``, the denominator of theta-RelatIF (Def. 3.2).
    """

    gradient: Tensor
    self_influence: Tensor
    theta: Tensor


def norms_of(curvature: Curvature, rotated: Mapping[str, LayerGradients]) -> Norms:
    """Return the norms of N gradients from Q'g: entries are squared once for all of them.

    Raises ModelError where no layer is given.
    """
    total: Tensor | None = None
    for name, gradient in rotated.items():
        inverse = curvature.inverse(name)
        squares = gradient.weighted_norms(gradient.ones(), inverse, inverse.square())
        total = squares if total is None else total.add_(squares)
    if total is None:
        raise ModelError("expected gradients of at least one layer, found none")
    return Norms(total[0].sqrt(), total[1], total[2].sqrt())


def influence(
    curvature: Curvature, rotated_test: Mapping[str, LayerGradients], rotated_train: Mapping[str, LayerGradients]
) -> Tensor:
    """Return ``g_t' (H + lambda I)^-1 g_i``, [M, N] (Eq. 3, with the Fisher for H Eq. 6), from Q'g_t and Q'g_i.

    Positive where up-weighting example i lowers the loss of t. Divided by n it predicts, in nats, how much that loss
    rises when i is left out (Eq. 5).
    """
    layers = (
        gradient.inner_products(curvature.inverse(name), rotated_train[name]) for name, gradient in rotated_test.items()
    )
    return reduce(add, layers)


def _transposed(basis: Tensor | None) -> Tensor | None:
    return basis if basis is None else basis.T
