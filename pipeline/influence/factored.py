"""Rank-one gradients in every layer: low-rank screening within a proven bound, and exact scores from float64 factors.

Axes: M queries, m of them in a tile, N training examples of a shard, B pairs, O outputs, I inputs, R rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.influence.low_rank import LowRank, full_rank, smallest_low_rank
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.precision import FLOAT32_UNIT, Precision
from relatif.schemas.errors import ModelError

PAIRS_PER_CHUNK = 256
ROWS_PER_CHUNK = 128
"""How many pairs are scored, and how many queries' rounding errors measured, at once: they fit into a core's cache."""

WORTHLESS_ERROR = 0.1
"""A bound of this share of |w_t| |w_n| screens out too little to be worth a low rank."""


@dataclass(frozen=True)
class FactoredLayer:
    """One layer's rank-one gradients of a batch: exact, and copies for screening.

    ``outputs`` [N, O] and ``inputs`` [N, I] are float64. In the screening copies inputs are normalized and outputs
    absorb the scale of a gradient with |w| = 1: of a query block ``screen_outputs`` [R, M, O'] float32 (times u_r) and
    ``screen_inputs`` [R, M, I] (times v_r), of a shard [N, O'] and [N, I]. O' counts the kept outputs, u_r and v_r are
    the factors of the low-rank form.
    """

    outputs: Tensor
    inputs: Tensor
    screen_outputs: Tensor
    screen_inputs: Tensor


@dataclass(frozen=True)
class FactoredContraction:
    """Rank-one gradients in every layer: R products of length I per pair and layer, instead of O of them.

    ``weights[name]`` is 1 / (s + lambda), [O, I] float64; ``kept[name]`` are the outputs that matter to the block;
    ``error`` bounds |tile - influence / (|w_t| |w_n|)|.
    """

    layers: Mapping[str, FactoredLayer]
    weights: Mapping[str, Tensor]
    kept: Mapping[str, Tensor]
    precision: Precision
    error: float

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> "FactoredMeeting":
        """Keep a shard's factors, exact and for screening; ModelError for gradients that are not rank-one."""
        scale = reciprocal(norms)
        layers = {}
        for name, gradient in _rank_one(gradients).items():
            unit = _unit(gradient, scale)
            # Screening reads the kept outputs alone; exact scores read all of them.
            outputs, inputs = unit.outputs[:, self.kept[name]].float(), unit.inputs.to(self.precision.dtype)
            layers[name] = FactoredLayer(gradient.outputs, gradient.inputs, outputs, inputs)
        return FactoredMeeting(self, layers)


@dataclass(frozen=True)
class FactoredMeeting:
    """The block's layers beside a shard's."""

    block: FactoredContraction
    shard: Mapping[str, FactoredLayer]

    def tile(self, rows: slice) -> Tensor:
        """Return the low-rank sum over layers, [m, N]."""
        total: Tensor | None = None
        for name, layer in self.block.layers.items():
            train = self.shard[name]
            # One part of the form at a time: (u_r d_t . d_n) (v_r a_t . a_n).
            for outputs, inputs in zip(layer.screen_outputs, layer.screen_inputs, strict=True):
                products = (inputs[rows] @ train.screen_inputs.T).float()
                weights = outputs[rows] @ train.screen_outputs.T
                # In place: a tile and its parts stay in a core's cache.
                total = products.mul_(weights) if total is None else total.addcmul_(products, weights)
        assert total is not None
        return total

    def error(self, tile: Tensor) -> Tensor:
        """Return the block's bound, one number."""
        return tile.new_tensor(self.block.error)

    def exact(self, tile: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return influences from the float64 factors, [B].

        A pair's value is summed within its own row, never by a matrix product, which rounds an entry differently in
        different places: a score must not depend on which other pairs were scored with it.
        """
        lines, columns = pairs[0] + rows.start, pairs[1]
        total = torch.zeros(len(lines), dtype=torch.float64, device=lines.device)
        for start in range(0, len(lines), PAIRS_PER_CHUNK):
            chunk = slice(start, start + PAIRS_PER_CHUNK)
            for name, layer in self.block.layers.items():
                train = self.shard[name]
                inputs = layer.inputs.index_select(0, lines[chunk])
                inputs *= train.inputs.index_select(0, columns[chunk])
                outputs = layer.outputs.index_select(0, lines[chunk])
                outputs *= train.outputs.index_select(0, columns[chunk])
                # One output at a time, in order, so that a pair's sum is always rounded alike.
                for output, weights in enumerate(self.block.weights[name]):
                    total[chunk] += outputs[:, output] * (inputs * weights).sum(dim=1)
        return total


def factored_contraction(
    gradients: Mapping[str, FactoredGradients], weights: Mapping[str, Tensor], scale: Tensor, precision: Precision
) -> FactoredContraction:
    """Return the contraction of a block's rank-one gradients; ``scale`` [M] is 1 / |w_t|, and 0 for zeros."""
    gradients, weights = _rank_one(gradients), {name: values.double() for name, values in weights.items()}
    layers, kept = {}, {}
    largest, dropped = 0.0, 0.0
    rounding = torch.zeros_like(scale)
    for name, gradient in gradients.items():
        unit = _unit(gradient, scale)
        # Each dropped output may cost a hundredth of the error that is allowed to the form.
        kept[name], lost = _kept_outputs(unit, weights[name], precision.low_rank_tolerance / 100)
        form = _form(weights[name][kept[name]], precision, gradient.shape)
        unit = FactoredGradients(unit.outputs[:, kept[name]], unit.inputs)
        # u_r and v_r are multiplied into the queries' copies, so that a shard needs one copy for all r.
        outputs = (unit.outputs * form.output_factors[:, None, :]).float()
        inputs = torch.stack([(unit.inputs * factors).to(precision.dtype) for factors in form.input_factors])
        layers[name] = FactoredLayer(gradient.outputs, gradient.inputs, outputs, inputs)
        # Layers are parts of one sum over parameters: relative errors of its terms are bounded by the largest layer's,
        # dropped shares add up, and the measured errors are the parts of one vector.
        largest = max(largest, _screening_error(form, precision, *gradient.shape))
        dropped += lost
        rounding += _squared_rounding(unit, inputs, form, weights[name][kept[name]])
    error = largest + dropped + float(rounding.max().sqrt())
    return FactoredContraction(layers, weights, kept, precision, error)


def _form(inverse: Tensor, precision: Precision, shape: tuple[int, int]) -> LowRank:
    """Return a low-rank form, or the matrix itself where the spectrum is so rough that the form's parts cancel."""
    form = smallest_low_rank(inverse, precision.low_rank_tolerance)
    return form if _screening_error(form, precision, *shape) <= WORTHLESS_ERROR else full_rank(inverse)


def _squared_rounding(unit: FactoredGradients, rounded: Tensor, form: LowRank, inverse: Tensor) -> Tensor:
    """Return the squared whitened norm, [M], of the error that rounding the inputs [R, M, I] makes in unit queries.

    It is measured, because rounding errors add up at random and stay several times below their bound. With rounding
    errors e_r [M, I] of the R inputs it is the norm over (o, i) of ``sum_r u_r[o] e_r[i] d_t[o] / sqrt(C[o, i])``.
    Divided by sqrt(C), the error multiplies w_n: by Cauchy-Schwarz the norm bounds what it changes in a tile.
    """
    parts = []
    # A few rows at a time: the arrays of a whole block would pass through memory once for every output.
    for start in range(0, len(unit.inputs), ROWS_PER_CHUNK):
        rows = slice(start, start + ROWS_PER_CHUNK)
        errors = [
            values[rows].double() - unit.inputs[rows] * factors
            for values, factors in zip(rounded, form.input_factors, strict=True)
        ]
        total = torch.zeros_like(unit.inputs[rows, 0])
        for output in range(len(inverse)):
            combined = reduce(add, (error * form.output_factors[r, output] for r, error in enumerate(errors)))
            total += (combined.square_() @ (1 / inverse[output])) * unit.outputs[rows, output].square()
        parts.append(total)
    return torch.cat(parts)


def _screening_error(form: LowRank, precision: Precision, output_count: int, input_count: int) -> float:
    """Bound a layer's other errors: of the form, of rounding training inputs, of rounding products, of float32 sums.

    Rounding the training inputs is relative in each term of the whole sum; rounding a product, and summing in float32,
    is relative in each of the form's R parts, which cancel by up to its amplification.
    """
    unit = precision.unit
    parts = unit * (1 + unit) ** 2 + (output_count + input_count + 16) * FLOAT32_UNIT
    return form.error + (1 + form.error) * unit + form.amplification * (parts + 2 * unit**2)


def _kept_outputs(unit: FactoredGradients, inverse: Tensor, negligible_share: float) -> tuple[Tensor, float]:
    """Return the outputs [O'] in which some query has a gradient, and the largest share of |w_t| in the others.

    The gradient of a softmax layer sums to zero over its outputs, so one eigenvector of the output factor never
    matters; its small eigenvalue would be the hardest for a low-rank form.
    """
    # Row o of a whitened gradient has the norm |d[o]| sqrt(sum_i C[o, i] a[i]^2).
    largest = (unit.outputs.abs() * (unit.inputs.square() @ inverse.T).sqrt()).amax(dim=0)
    negligible = largest <= negligible_share
    # Where no output matters (zero gradients, a layer that hardly counts) all are kept: a form needs one.
    if bool(negligible.all()):
        negligible = torch.zeros_like(negligible)
    # The norm of all dropped rows together is at most the sum of their norms.
    return torch.nonzero(~negligible).flatten(), float(largest[negligible].sum())


def _unit(gradient: FactoredGradients, scale: Tensor) -> FactoredGradients:
    """Return gradients times ``scale`` = 1 / |w| with inputs of norm 1: both factors then are in float32's range."""
    lengths = gradient.inputs.norm(dim=1)
    inputs = gradient.inputs * reciprocal(lengths)[:, None]
    return FactoredGradients(gradient.outputs * (lengths * scale)[:, None], inputs)


def _rank_one(gradients: Mapping[str, LayerGradients]) -> dict[str, FactoredGradients]:
    """Return gradients in float64, in which exact scores are summed whatever the model's precision."""
    found = {
        name: FactoredGradients(gradient.outputs.double(), gradient.inputs.double())
        for name, gradient in gradients.items()
        if isinstance(gradient, FactoredGradients)
    }
    if len(found) < len(gradients):
        raise ModelError(
            f"expected rank-one gradients in every layer, as the query block has, found others in "
            f"{sorted(set(gradients) - set(found))}; give both the same form"
        )
    return found
