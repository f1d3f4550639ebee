"""Sums over training examples from which the Kronecker-factored curvatures are made.

Axes: N examples, T positions, O outputs, I inputs (bias folded). Sums have the model's precision, merge
associatively and carry their count, so that a mean over shards is the mean over examples.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import TypeVar

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import ForwardPass, forward_pass, term_output_gradients
from relatif.pipeline.curvature.eigen import KroneckerBasis
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.positions import factors_first
from relatif.pipeline.curvature.sides import (
    Side,
    added_moments,
    moment,
    numbers_of,
    positions_of,
    rotated,
    widened,
    width_of,
)

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class LayerSums:
    """Sums of a layer: inputs' ``sum_n mean_t a a'`` [I, I] and output gradients' ``sum_n E_y sum_t d d'`` [O, O].

    T counts the positions of all uses. ``transposed`` are the sums of uses with gradients at the inputs' side, where a
    block has uses of both kinds; where it has those alone, the moments are theirs.
    """

    input_moment: Tensor
    output_moment: Tensor
    transposed: "LayerSums | None" = None

    def add(self, other: "LayerSums") -> None:
        """Add the sums of other examples in place."""
        self.input_moment.add_(other.input_moment)
        self.output_moment.add_(other.output_moment)
        if self.transposed is not None and other.transposed is not None:
            self.transposed.add(other.transposed)

    def merge(self, other: "LayerSums") -> "LayerSums":
        """Add the sums of other examples."""
        both = [each for each in (self.transposed, other.transposed) if each is not None]
        return LayerSums(
            self.input_moment + other.input_moment,
            self.output_moment + other.output_moment,
            reduce(LayerSums.merge, both) if both else None,
        )

    def to(self, device: torch.device | str) -> "LayerSums":
        """Return the same sums on another device."""
        other = self.transposed and self.transposed.to(device)
        return LayerSums(self.input_moment.to(device), self.output_moment.to(device), other)

    def single(self) -> "LayerSums":
        """Return the sums of one Kronecker product.

        For uses of both kinds it is the product A x B with the partial traces of the sum of both products:
        ``A = sum_u A_u tr B_u / s`` and ``B = sum_u B_u tr A_u / s`` with ``s^2 = sum_u tr A_u tr B_u``. For one kind
        that would be A x B itself.
        """
        if self.transposed is None:
            return self
        both = (LayerSums(self.input_moment, self.output_moment), self.transposed)
        traces = [(_trace(each.input_moment), _trace(each.output_moment)) for each in both]
        scale = reduce(torch.add, (one * other for one, other in traces)).sqrt()
        scale = torch.where(scale > 0, scale, 1.0)
        inputs = (each.input_moment * of_outputs for each, (_, of_outputs) in zip(both, traces, strict=True))
        outputs = (each.output_moment * of_inputs for each, (of_inputs, _) in zip(both, traces, strict=True))
        return LayerSums(reduce(added_moments, inputs) / scale, reduce(added_moments, outputs) / scale)


@dataclass(frozen=True)
class KroneckerSums:
    """The sums of every layer over ``count`` examples."""

    layers: Mapping[str, LayerSums]
    count: int

    @property
    def nbytes(self) -> int:
        """Return the size of all moments, but for those of transposed uses."""
        return sum(each.input_moment.nbytes + each.output_moment.nbytes for each in self.layers.values())

    def add(self, other: "KroneckerSums") -> "KroneckerSums":
        """Return the sums with those of other examples, added in place: both together may take gigabytes."""
        for name, mine in self.layers.items():
            mine.add(other.layers[name])
        return KroneckerSums(self.layers, self.count + other.count)

    def merge(self, other: "KroneckerSums") -> "KroneckerSums":
        """Add the sums of other examples."""
        merged = {name: mine.merge(other.layers[name]) for name, mine in self.layers.items()}
        return KroneckerSums(merged, self.count + other.count)

    def to(self, device: torch.device | str) -> "KroneckerSums":
        """Return the same sums on another device."""
        return KroneckerSums({name: each.to(device) for name, each in self.layers.items()}, self.count)


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

    With weight sharing (T > 1) this is the expand form: outer products of the inputs are averaged over the positions of
    all uses of a block, those of the output gradients summed.
    Raises NumericalError that names layer and example when a gradient is not finite.
    """
    # reduce lets go of a piece's sums before it asks for the next: of a large model they take gigabytes.
    return reduce(KroneckerSums.add, (_kronecker_sums(subject, piece) for piece in pieces(subject, examples)))


def _kronecker_sums(subject: CoveredModel, examples: Examples) -> KroneckerSums:
    forward = _forward(subject, examples)
    seen: dict[str, dict[bool, Tensor]] = {}
    gradients: dict[tuple[str, bool], Tensor] = {}
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        for name, uses in forward.factors(output_gradients).items():
            # What a layer sees is the same for every label, so its moments stay outside the loop over labels.
            if name not in seen:
                seen[name] = _seen_moments(uses)
            for use in uses:
                _add(gradients, (name, use.transposed), moment(use.gradients, weights))
    layers = {name: _layer_sums(seen[name], gradients, name) for name in forward.coverage.blocks}
    return KroneckerSums(layers, len(examples))


def _seen_moments(uses: Sequence[Factors]) -> dict[bool, Tensor]:
    """Return the moments of what a block saw, by whether its uses are transposed: means over positions of all uses."""
    moments: dict[bool, Tensor] = {}
    for use in uses:
        positions = sum(positions_of(other.seen) for other in uses if other.transposed == use.transposed)
        # Weights of 1 / T make the mean over positions.
        numbers = numbers_of(use.seen)
        weights = torch.full((len(numbers),), 1 / positions, dtype=torch.float64, device=numbers.device)
        _add(moments, use.transposed, moment(use.seen, weights))
    return moments


def _layer_sums(seen: Mapping[bool, Tensor], gradients: Mapping[tuple[str, bool], Tensor], name: str) -> LayerSums:
    kinds = {
        transposed: LayerSums(gradients[name, True], moment)
        if transposed
        else LayerSums(moment, gradients[name, False])
        for transposed, moment in seen.items()
    }
    return replace(kinds[False], transposed=kinds.get(True)) if False in kinds else kinds[True]


def spectrum_sums(subject: CoveredModel, examples: Examples, bases: Mapping[str, KroneckerBasis]) -> SpectrumSums:
    """Sum the squared gradients of a batch in the given eigenbases (EK-FAC's spectrum), expectation as in Eq. 7."""
    return reduce(SpectrumSums.merge, (_spectrum_sums(subject, piece, bases) for piece in pieces(subject, examples)))


def _spectrum_sums(subject: CoveredModel, examples: Examples, bases: Mapping[str, KroneckerBasis]) -> SpectrumSums:
    totals: dict[str, Tensor] = {}
    rotated_seen: dict[str, list[Side]] = {}
    forward = _forward(subject, examples)
    for weights, output_gradients in term_output_gradients(forward, subject, examples):
        for name, uses in forward.factors(output_gradients).items():
            # In a given basis the diagonal of the Fisher, E (Q'g)^2, is the spectrum that comes closest to it.
            squares = _rotated(uses, bases[name], rotated_seen.setdefault(name, [])).squared_moments(weights)
            totals[name] = totals[name] + squares if name in totals else squares
    return SpectrumSums(totals, len(examples))


def _rotated(uses: Sequence[Factors], basis: KroneckerBasis, seen: list[Side]) -> LayerGradients:
    """Return Q'g from the factors of a block's uses.

    ``seen`` keeps, from one term of the Fisher to the next, what the block saw in the basis: empty before the first.
    """
    shape = width_of(uses[0].outputs), width_of(uses[0].inputs)
    positions = sum(positions_of(use.outputs) for use in uses)
    if not factors_first(positions, shape, (basis.output, basis.input)):
        return layer_gradients(uses).rotate(basis.output, basis.input)
    if not seen:
        bases = (basis.output if use.transposed else basis.input for use in uses)
        seen.extend(rotated(widened(use.seen), each) for use, each in zip(uses, bases, strict=True))
    turned = []
    for use, kept in zip(uses, seen, strict=True):
        gradients = rotated(widened(use.gradients), basis.input if use.transposed else basis.output)
        turned.append(use._replace(inputs=gradients, outputs=kept) if use.transposed else Factors(gradients, kept))
    return layer_gradients(turned)


def eigenbasis(moment: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    """Return eigenvalues [D] (rising, rounding below zero clamped) and eigenvectors [D, D] of ``moment / count``.

    A diagonal [D] is its own eigenvalues, in its own order; its eigenvectors are the identity, None. The decomposition
    is made in float64; what it gives is in the moment's precision.
    """
    if moment.ndim == 1:
        return moment / count, None
    values, vectors = torch.linalg.eigh(moment.double() / count)
    return values.clamp(min=0).to(moment.dtype), vectors.to(moment.dtype)


def _trace(moment: Tensor) -> Tensor:
    return moment.sum() if moment.ndim == 1 else moment.trace()


def kronecker_spectrum(output_values: Tensor, input_values: Tensor) -> Tensor:
    """Return the eigenvalues of the Kronecker product as [O, I], in the lower of both precisions."""
    dtype = min(output_values.dtype, input_values.dtype, key=lambda each: each.itemsize)
    return torch.outer(output_values.to(dtype), input_values.to(dtype))


def _forward(subject: CoveredModel, examples: Examples) -> ForwardPass:
    return forward_pass(subject.model, examples.inputs, subject.coverage, first_index=examples.first_index)


def _add(totals: dict[Key, Tensor], name: Key, value: Tensor) -> None:
    totals[name] = added_moments(totals[name], value) if name in totals else value
