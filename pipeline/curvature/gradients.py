"""The form of a layer's gradients that is the cheapest to hold, chosen by counted numbers.

Axes: N examples, T positions at which the layer is applied, O outputs, I inputs (a bias is a last input of constant 1).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.positions import PositionGradients, UnsummedGradients
from relatif.pipeline.curvature.sides import (
    OneHot,
    Side,
    dense,
    joined_positions,
    joined_rows,
    numbers_of,
    positions_of,
    widened,
    width_of,
    with_equal_positions,
)
from relatif.pipeline.curvature.sparse import NO_WORD, SparseGradients, sparse_gradients

HELD_ENTRIES = 2**18
"""Gradients of at most so many entries are formed once: a few hundred of them fit into the memory of any machine."""


def layer_gradients(uses: Sequence[Factors]) -> LayerGradients:
    """Choose the cheapest form for the sum over a block's uses, with factors [N, T, O] and [N, T, I].

    With one use at one position the factors need N (O + I) numbers instead of N O I. With more, squares and rotations
    of a sum of T outer products need the cross terms, so the sum is formed once at 2 N T O I operations, after it was
    rotated where that is cheaper. Where it is large, and the factors of all positions are smaller, these are kept.

    >>> once = Factors(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[3.0, 4.0, 5.0]]]))
    >>> layer_gradients([once]).dense().tolist()
    [[[3.0, 4.0, 5.0], [6.0, 8.0, 10.0]]]
    >>> twice = layer_gradients([once, once])
    >>> type(twice).__name__, twice.dense().tolist()
    ('UnsummedGradients', [[[6.0, 8.0, 10.0], [12.0, 16.0, 20.0]]])
    """
    sides = tuple((widened(use.outputs), widened(use.inputs)) for use in uses)
    outputs, inputs = (joined_positions([use[place] for use in sides]) for place in (0, 1))
    if outputs is None or inputs is None:
        # Uses of two kinds, such as an embedding and the head that is tied to it.
        return _of_uses(sides)
    if isinstance(inputs, OneHot) and isinstance(outputs, Tensor) and _is_sparse(inputs, width_of(outputs)):
        return sparse_gradients(outputs, inputs)
    if positions_of(outputs) == 1:
        # One position: the gradient is one outer product.
        return FactoredGradients(dense(outputs)[:, 0], dense(inputs)[:, 0])
    return _of_uses(((outputs, inputs),))


def concatenate(batches: Sequence[LayerGradients]) -> LayerGradients:
    """Return the gradients of several batches of one layer as one batch, in order."""
    factored = [batch for batch in batches if isinstance(batch, FactoredGradients)]
    if len(factored) == len(batches):
        return FactoredGradients(
            torch.cat([batch.outputs for batch in factored]), torch.cat([batch.inputs for batch in factored])
        )
    return _joined(batches)


def _is_sparse(inputs: OneHot, outputs: int) -> bool:
    """Return whether an embedding's gradient is large, and the rows that are not zero are less than half of it."""
    return outputs * inputs.width > HELD_ENTRIES and 2 * positions_of(inputs) < inputs.width


def _of_uses(uses: tuple[tuple[Side, Side], ...]) -> LayerGradients:
    """Return gradients of many positions: their entries, formed once, or their factors where these are smaller."""
    kept = PositionGradients(uses)
    entries = kept.shape[0] * kept.shape[1]
    factors = sum(numbers_of(side)[0].numel() for use in uses for side in use)
    return kept if entries > max(HELD_ENTRIES, factors) else UnsummedGradients(kept)


def _joined(batches: Sequence[LayerGradients]) -> LayerGradients:
    """Join batches that are not all rank-one: by their factors, unless one of them has its entries alone."""
    sparse = [batch for batch in batches if isinstance(batch, SparseGradients)]
    if len(sparse) == len(batches):
        ids = torch.cat(with_equal_positions([batch.ids for batch in sparse], fill=NO_WORD))
        values = torch.cat(with_equal_positions([batch.values for batch in sparse]))
        return SparseGradients(ids, values, sparse[0].width)
    uses = [_uses(batch) for batch in batches]
    kinds = {tuple(isinstance(side, OneHot) for use in each for side in use) for each in uses}
    if () in kinds or len(kinds) > 1:
        return DenseGradients(torch.cat([batch.dense() for batch in batches]))
    return PositionGradients(
        tuple(
            (joined_rows([outputs for outputs, _ in same]), joined_rows([inputs for _, inputs in same]))
            for same in zip(*uses, strict=True)
        )
    )


def _uses(gradients: LayerGradients) -> tuple[tuple[Side, Side], ...]:
    """Return the factors of gradients at all positions; none where only the entries are there."""
    match gradients:
        case PositionGradients():
            return gradients.uses
        case FactoredGradients():
            return ((gradients.outputs[:, None], gradients.inputs[:, None]),)
        case SparseGradients():
            used = gradients.ids != NO_WORD
            words = OneHot(gradients.ids.clamp(min=0), gradients.width, used.to(gradients.values.dtype))
            return ((gradients.values, words),)
    return ()
