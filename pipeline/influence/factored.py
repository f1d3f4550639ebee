"""Rank-one gradients in every layer: screening within a proven bound, and exact scores from float64 factors.

Axes: M queries, m of them in a tile, N training examples of a shard, B pairs, O outputs, I inputs.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.influence.low_rank import LowRank
from relatif.pipeline.influence.meeting import reciprocal
from relatif.pipeline.influence.pair_sums import PAIRS, PairSums, closest_form, filled_up
from relatif.pipeline.influence.precision import FLOAT32_UNIT, Precision
from relatif.pipeline.influence.screens import Screen, Sides, cheapest_screen, forms_of
from relatif.schemas.errors import ModelError


@dataclass(frozen=True, eq=False)
class ScreenedLayer:
    """One layer's queries: factors ``exact`` [M, O], [M, I] float64, and a screen of the outputs that are ``kept``.

    ``closer`` stands for the exact sums over these outputs where it takes much less.
    """

    exact: FactoredGradients
    kept: Tensor
    screen: Screen
    sums: PairSums
    closer: LowRank | None

    def closer_sums(self, outputs: Tensor, inputs: Tensor) -> Tensor:
        """Return about what ``sums`` returns for [PAIRS, O] and [PAIRS, I]: by the closer form, of kept outputs."""
        if self.closer is None:
            return self.sums(outputs, inputs)
        terms = (outputs[:, self.kept] @ self.closer.output_factors.T) * (inputs @ self.closer.input_factors.T)
        return terms.sum(dim=1)


@dataclass(frozen=True, eq=False)
class FactoredContraction:
    """Rank-one gradients in every layer: a screen of each, and exact scores from the factors.

    ``weights`` [O, I] by block, float64, stand between two gradients.
    ``error`` bounds |tile - influence / (|w_t| |w_n|)|, ``closer_error`` what closer sums are off by in that unit.
    ``query_norms`` [M] is |w_t|.
    """

    layers: Mapping[str, ScreenedLayer]
    weights: Mapping[str, Tensor]
    error: float
    closer_error: float
    query_norms: Tensor

    def meet(self, gradients: Mapping[str, LayerGradients], norms: Tensor) -> "FactoredMeeting":
        """Keep a shard's factors, exact and for screening; ModelError for gradients that are not rank-one."""
        exact, scale = _rank_one(gradients), reciprocal(norms)
        sides = {}
        for name, layer in self.layers.items():
            unit = _unit(exact[name], scale)
            # Screening reads the kept outputs alone; exact scores read all of them.
            sides[name] = layer.screen.sides(FactoredGradients(unit.outputs[:, layer.kept], unit.inputs))
        return FactoredMeeting(self, exact, sides, scale)


@dataclass(frozen=True, eq=False)
class FactoredMeeting:
    """The block's layers beside a shard's: its factors, its sides of the screens, and 1 / |w_n|, [N] float64."""

    block: FactoredContraction
    exact_factors: Mapping[str, FactoredGradients]
    sides: Mapping[str, Sides]
    scale: Tensor

    def tile(self, rows: slice) -> Tensor:
        """Return the screens' sum over layers, [m, N]."""
        layers = self.block.layers
        some = next(iter(layers.values())).exact.outputs[rows]
        columns = next(iter(self.exact_factors.values())).count
        total = torch.zeros(len(some), columns, dtype=torch.float32, device=some.device)
        for name, layer in layers.items():
            layer.screen.add(total, rows, self.sides[name])
        return total

    def error(self, tile: Tensor) -> Tensor:
        """Return the block's bound, one number."""
        return tile.new_tensor(self.block.error)

    @property
    def nbytes(self) -> int:
        """Return the size of the shard's factors, exact and for screening."""
        exact = sum(factors.nbytes for factors in self.exact_factors.values())
        return exact + sum(side.nbytes for sides in self.sides.values() for side in sides)

    def closer(self, rows: slice, pairs: Tensor) -> tuple[Tensor, float] | None:
        """Return the pairs' cosines [B] by closer sums in float64, and their error: that of the layers' forms."""
        if all(layer.closer is None for layer in self.block.layers.values()):
            return None
        values = self._summed(rows, pairs, ScreenedLayer.closer_sums)
        cosines = values * reciprocal(self.block.query_norms[rows])[pairs[0]] * self.scale[pairs[1]]
        return cosines, self.block.closer_error

    def exact(self, values: Tensor, rows: slice, pairs: Tensor) -> Tensor:
        """Return influences from the float64 factors, [B].

        A pair's value is rounded alike whichever other pairs are scored with it: sums are those of ``PairSums``.
        """
        return self._summed(rows, pairs, lambda layer, outputs, inputs: layer.sums(outputs, inputs))

    def _summed(self, rows: slice, pairs: Tensor, sums: Callable[[ScreenedLayer, Tensor, Tensor], Tensor]) -> Tensor:
        """Return sums over layers of products of the pairs' factors, [B], in arrays of PAIRS pairs."""
        count = pairs.shape[1]
        if count == 0:
            return torch.zeros(0, dtype=torch.float64, device=pairs.device)
        filled, parts = filled_up(pairs), []
        for line, column in zip((filled[0] + rows.start).split(PAIRS), filled[1].split(PAIRS), strict=True):
            total = torch.zeros(PAIRS, dtype=torch.float64, device=pairs.device)
            for name, layer in self.block.layers.items():
                train = self.exact_factors[name]
                outputs, inputs = layer.exact.outputs.index_select(0, line), layer.exact.inputs.index_select(0, line)
                outputs *= train.outputs.index_select(0, column)
                inputs *= train.inputs.index_select(0, column)
                total += sums(layer, outputs, inputs)
            parts.append(total)
        return torch.cat(parts)[:count]


def factored_contraction(
    gradients: Mapping[str, FactoredGradients], weights: Mapping[str, Tensor], scale: Tensor, precision: Precision
) -> FactoredContraction:
    """Return the contraction of a block's rank-one gradients; ``scale`` [M] is 1 / |w_t|, and 0 for zeros."""
    gradients, weights = _rank_one(gradients), {name: values.double() for name, values in weights.items()}
    layers = {}
    dropped, rounding = 0.0, torch.zeros_like(scale)
    for name, gradient in gradients.items():
        unit = _unit(gradient, scale)
        # Each dropped output may cost a hundredth of the error that is allowed to the form.
        kept, lost = _kept_outputs(unit, weights[name], precision.low_rank_tolerance / 100)
        of_kept = FactoredGradients(unit.outputs[:, kept], unit.inputs)
        forms = forms_of(weights[name][kept])
        screen = cheapest_screen(of_kept, weights[name][kept], precision, forms)
        closer = closest_form(forms, weights[name].shape)
        layers[name] = ScreenedLayer(gradient, kept, screen, PairSums(weights[name]), closer)
        dropped += lost
        rounding += screen.rounding
    # Layers are parts of one sum over parameters: relative errors of its terms are bounded by the largest layer's,
    # dropped shares add up, and the measured errors are the parts of one vector. A tile rounds once for each product.
    screens = [layer.screen for layer in layers.values()]
    largest, reach = max(screen.error for screen in screens), max(screen.reach for screen in screens)
    summed = sum(screen.passes for screen in screens) * FLOAT32_UNIT * reach * (1 + largest)
    error = largest + dropped + float(rounding.max().sqrt()) + summed
    # Of terms that are relative to the whole, too. What float64 rounds is far below the allowance of bounds.
    errors = [layer.closer.error for layer in layers.values() if layer.closer is not None]
    closer_error = max(errors, default=0.0) + dropped
    return FactoredContraction(layers, weights, error, closer_error, reciprocal(scale))


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
