"""Sums over training examples from which the Kronecker-factored curvatures are made.

Axes: N examples, T positions, O outputs, I inputs (bias folded). Sums are float64, merge associatively and carry their
count, so that a mean over shards is the mean over examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import ForwardPass, forward_pass, term_output_gradients
from relatif.pipeline.curvature.eigen import KroneckerBasis
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.pieces import pieces


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

    def to(self, device: torch.device | str) -> "KroneckerSums":
        """Return the same sums on another device."""
        moved = {
            name: LayerSums(each.input_moment.to(device), each.output_moment.to(device))
            for name, each in self.layers.items()
        }
        return KroneckerSums(moved, self.count)


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

    def to(self, device: torch.device | str) -> "SpectrumSums":
        """Return the same sums on another device."""
        return SpectrumSums({name: values.to(device) for name, values in self.layers.items()}, self.count)


def kronecker_sums(subject: CoveredModel, examples: Examples) -> KroneckerSums:
    """Sum the K-FAC factors of a batch, with the expectation over labels of ``subject.fisher`` (Eq. 7).

    With weight sharing (T > 1) this is the expand form: outer products of the inputs are averaged over positions, those
    of the output gradients summed.
    Raises NumericalError that names layer and example when a gradient is not finite.
    """
    return reduce(KroneckerSums.merge, (_kronecker_sums(subject, piece) for piece in pieces(subject, examples)))


def _kronecker_sums(subject: CoveredModel, examples: Examples) -> KroneckerSums:
    forward = _forward(subject, examples)
    # Most inputs are the same for every label, so their moments stay outside the loop over labels.
    inputs, outputs = _fixed_input_moments(forward), dict[str, Tensor]()
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        for name, (output_factor, input_factor) in forward.factors(output_gradients).items():
            _add(outputs, name, _moment(output_factor, weights))
            # The row of an elementwise block depends on the label, so its moment is an expectation.
            if name in _elementwise(forward):
                _add(inputs, name, _moment(input_factor, weights))
    layers = {name: LayerSums(inputs[name], outputs[name]) for name in forward.coverage.blocks}
    return KroneckerSums(layers, len(examples))


def spectrum_sums(subject: CoveredModel, examples: Examples, bases: Mapping[str, KroneckerBasis]) -> SpectrumSums:
    """Sum the squared gradients of a batch in the given eigenbases (EK-FAC's spectrum), expectation as in Eq. 7."""
    return reduce(SpectrumSums.merge, (_spectrum_sums(subject, piece, bases) for piece in pieces(subject, examples)))


def _spectrum_sums(subject: CoveredModel, examples: Examples, bases: Mapping[str, KroneckerBasis]) -> SpectrumSums:
    totals: dict[str, Tensor] = {}
    forward = _forward(subject, examples)
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        for name, gradient in forward.gradients(output_gradients).items():
            # In a given basis the diagonal of the Fisher, E (Q'g)^2, is the spectrum that comes closest to it.
            rotated = gradient.rotate(bases[name].output, bases[name].input)
            _add(totals, name, rotated.squared_moments(weights).double())
    return SpectrumSums(totals, len(examples))


def eigenbasis(moment: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return eigenvalues [D] (rising, rounding below zero clamped) and eigenvectors [D, D] of ``moment / count``."""
    values, vectors = torch.linalg.eigh(moment.double() / count)
    return values.clamp(min=0), vectors


def kronecker_spectrum(output_values: Tensor, input_values: Tensor) -> Tensor:
    """Return the eigenvalues of the Kronecker product as [O, I]."""
    return torch.outer(output_values, input_values)


def _moment(values: Tensor, weights: Tensor) -> Tensor:
    """Return ``sum_nt weights[n] v[n, t] v[n, t]'`` in float64 for values [N, T, D]."""
    values, weights = values.double(), weights.double()
    positions, width = values.shape[1:]
    if positions >= width:
        # One [D, D] product for each example takes no more memory than a weighted copy of all [N T, D] values.
        return (weights @ (values.mT @ values).flatten(1)).view(width, width)
    joined = values.flatten(0, 1)
    return (weights.repeat_interleave(positions)[:, None] * joined).T @ joined


def _forward(subject: CoveredModel, examples: Examples) -> ForwardPass:
    return forward_pass(subject.model, examples.inputs, subject.coverage, first_index=examples.first_index)


def _fixed_input_moments(forward: ForwardPass) -> dict[str, Tensor]:
    """Return the inputs' moments of the blocks whose inputs are the same for every label."""
    moments = {}
    for name, layer in forward.coverage.layers.items():
        if not layer.rule.elementwise:
            for block, values in zip(layer.blocks, forward.layer_inputs[name], strict=True):
                # Weights of 1 / T make the mean over positions.
                moments[block] = _moment(values, values.new_full((len(values),), 1 / values.shape[1]))
    return moments


def _elementwise(forward: ForwardPass) -> set[str]:
    return {block for layer in forward.coverage.layers.values() if layer.rule.elementwise for block in layer.blocks}


def _add(totals: dict[str, Tensor], name: str, value: Tensor) -> None:
    totals[name] = totals[name] + value if name in totals else value
