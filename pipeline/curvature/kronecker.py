"""Sums over training examples from which the Kronecker-factored curvatures are made.

Axes: N examples, T positions, O outputs, I inputs (bias folded). Sums are float64, merge associatively and carry their
count, so that a mean over shards is the mean over examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.curvature.capture import PerExampleLoss, forward_pass, label_output_gradients, squared_norms
from pipeline.curvature.eigen import KroneckerBasis


@dataclass(frozen=True)
class LayerSums:
    """Sums of a layer: inputs' ``sum_n mean_t a a'`` [I, I] and output gradients' ``sum_n E_y sum_t d d'`` [O, O]."""

    input_moment: Tensor
    output_moment: Tensor


@dataclass(frozen=True)
class KroneckerSums:
    """The sums of every layer over ``count`` examples."""

    layers: Mapping[str, LayerSums]
    count: int

    def merge(self, other: "KroneckerSums") -> "KroneckerSums":
        """Add the sums of other examples."""
        merged = {
            name: LayerSums(
                mine.input_moment + other.layers[name].input_moment,
                mine.output_moment + other.layers[name].output_moment,
            )
            for name, mine in self.layers.items()
        }
        return KroneckerSums(merged, self.count + other.count)


@dataclass(frozen=True)
class SpectrumSums:
    """Sums of squared rotated gradients, ``sum E_y (Q' g)^2`` of shape [O, I] per layer, over ``count`` examples."""

    layers: Mapping[str, Tensor]
    count: int

    def merge(self, other: "SpectrumSums") -> "SpectrumSums":
        """Add the sums of other examples."""
        return SpectrumSums(
            {name: mine + other.layers[name] for name, mine in self.layers.items()}, self.count + other.count
        )


def kronecker_sums(
    model: nn.Module, inputs: Tensor, loss: PerExampleLoss, class_count: int, *, first_index: int
) -> KroneckerSums:
    """Sum the K-FAC factors of a batch, with the exact expectation over the model's labels (Eq. 7).

    Raises NumericalError that names layer and example when a gradient is not finite.
    """
    forward = forward_pass(model, inputs)
    output_moments: dict[str, Tensor] = {}
    for probability, output_gradients in label_output_gradients(forward, loss, class_count):
        squared_norms(forward.gradients(output_gradients), first_index=first_index)
        for name, gradient in output_gradients.items():
            moment = _moment(gradient, probability)
            output_moments[name] = output_moments[name] + moment if name in output_moments else moment
    layers = {
        name: LayerSums(_moment(values, values.new_full((len(values),), 1 / values.shape[1])), output_moments[name])
        for name, values in forward.layer_inputs.items()
    }
    return KroneckerSums(layers, len(inputs))


def spectrum_sums(
    model: nn.Module, inputs: Tensor, loss: PerExampleLoss, class_count: int, bases: Mapping[str, KroneckerBasis]
) -> SpectrumSums:
    """Sum the squared gradients of a batch in the given eigenbases (EK-FAC's spectrum), expectation as in Eq. 7."""
    totals: dict[str, Tensor] = {}
    forward = forward_pass(model, inputs)
    for probability, output_gradients in label_output_gradients(forward, loss, class_count):
        for name, gradient in forward.gradients(output_gradients).items():
            rotated = gradient.rotate(bases[name].output, bases[name].input)
            moment = rotated.squared_moments(probability).double()
            totals[name] = totals[name] + moment if name in totals else moment
    return SpectrumSums(totals, len(inputs))


def eigenbasis(moment: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues [D] (rising, rounding below zero clamped) and eigenvectors [D, D] of ``moment / count``."""
    values, vectors = torch.linalg.eigh(moment.double() / count)
    return values.clamp(min=0), vectors


def kronecker_spectrum(output_values: Tensor, input_values: Tensor) -> Tensor:
    """Return the eigenvalues of the Kronecker product as [O, I]."""
    return torch.outer(output_values, input_values)


def _moment(values: Tensor, weights: Tensor) -> Tensor:
    """Return ``sum_nt weights[n] v[n, t] v[n, t]'`` in float64 for values [N, T, D]."""
    weighted = weights.double()[:, None, None] * values.double()
    return weighted.flatten(0, 1).T @ values.double().flatten(0, 1)
