"""Curvatures in eigen form: basis x spectrum x damping, H + lambda I = Q diag(s + lambda) Q'.

Axes: N examples, O outputs, I inputs of a layer (bias folded). Damping is added to the diagonal of the whole curvature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from pipeline.curvature.gradients import LayerGradients


@dataclass(frozen=True)
class KroneckerBasis:
    """The orthogonal basis Q = Q_out x Q_in of one layer, [O, O] and [I, I], eigenvectors in columns."""

    output: Tensor
    input: Tensor


@dataclass(frozen=True)
class LayerCurvature:
    """One layer's block: a basis (None for the identity basis) and the spectrum s, [O, I], not negative."""

    basis: KroneckerBasis | None
    spectrum: Tensor

    def rotate(self, gradients: LayerGradients) -> LayerGradients:
        """Return Q'g."""
        return gradients if self.basis is None else gradients.rotate(self.basis.output, self.basis.input)

    def to(self, device: torch.device | str) -> "LayerCurvature":
        """Return the same block on another device."""
        basis = self.basis and KroneckerBasis(self.basis.output.to(device), self.basis.input.to(device))
        return LayerCurvature(basis, self.spectrum.to(device))


@dataclass(frozen=True)
class Curvature:
    """A block-diagonal curvature, one block per layer, and its damping lambda."""

    layers: Mapping[str, LayerCurvature]
    damping: float

    def rotate(self, gradients: Mapping[str, LayerGradients]) -> dict[str, LayerGradients]:
        """Return Q'g for every layer."""
        return {name: block.rotate(gradients[name]) for name, block in self.layers.items()}

    def inverse(self, name: str) -> Tensor:
        """Return 1 / (s + lambda) of a layer, [O, I]."""
        return 1.0 / (self.layers[name].spectrum + self.damping)

    def to(self, device: torch.device | str) -> "Curvature":
        """Return the same curvature on another device."""
        return Curvature({name: block.to(device) for name, block in self.layers.items()}, self.damping)


def self_influence(curvature: Curvature, rotated: Mapping[str, LayerGradients]) -> Tensor:
    """Return ``g' (H + lambda I)^-1 g``, [N], the squared denominator of l-RelatIF (Def. 3.4), from Q'g."""
    return reduce(add, (gradient.weighted_norms(curvature.inverse(name)) for name, gradient in rotated.items()))


def theta_norm(curvature: Curvature, rotated: Mapping[str, LayerGradients]) -> Tensor:
    """Return ``||(H + lambda I)^-1 g||``, [N], the denominator of theta-RelatIF (Def. 3.2), from Q'g."""
    squares = (gradient.weighted_norms(curvature.inverse(name).square()) for name, gradient in rotated.items())
    return reduce(add, squares).sqrt()


def influence(
    curvature: Curvature, rotated_test: Mapping[str, LayerGradients], rotated_train: Mapping[str, LayerGradients]
) -> Tensor:
    """Return ``g_t' (H + lambda I)^-1 g_i``, [M, N] (Eq. 3, with the Fisher for H Eq. 6), from Q'g_t and Q'g_i."""
    layers = (
        gradient.inner_products(curvature.inverse(name), rotated_train[name]) for name, gradient in rotated_test.items()
    )
    return reduce(add, layers)


def identity_curvature(shapes: Mapping[str, tuple[int, int]], damping: float) -> Curvature:
    """Return H = 0 in the standard basis: with damping 1 influence is the plain inner product of gradients."""
    layers = {name: LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    return Curvature(layers, damping)
