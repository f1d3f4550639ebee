"""A block of test inputs meets shards of training examples: top-k by every method, from one pass.

Axes: M test inputs, m of them in a tile, N training examples of a shard, B pairs, k ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import Curvature, self_influence
from relatif.pipeline.curvature.gradients import LayerGradients
from relatif.pipeline.influence.contraction import Contraction, contraction, solved_contraction
from relatif.pipeline.influence.neighbours import (
    Features,
    features,
    negative_distances,
    neighbour_error,
    neighbour_tile,
)
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.influence.top_k import TopK, insert_pairs

RELATIVE_METHODS = ("influence", "theta_relatif", "l_relatif")
NEAREST = "nearest_neighbour"
ROUNDING = 1e-6
"""Allowance for float32 arithmetic on bounds and thresholds themselves, an order above its rounding."""
TINY = torch.finfo(torch.float64).tiny
SMALLEST = 2.0**-149
"""The smallest positive float32: scores that small are rounded by up to half of it."""
SLACK = 2.0**-140
"""Allowance for bounds that small."""


@dataclass(frozen=True)
class TestBlock:
    """Explained test inputs: their contraction, their features and |w_t| [M] float64."""

    contraction: Contraction
    features: Features
    norms: Tensor
    neighbour_error: float


@dataclass(frozen=True)
class TrainShard:
    """A shard ready to be scored: row of its first example, prepared gradients, features and norms [N] float64.

    ``scales[method]`` is what influence is multiplied by: 1, 1 / ||(H + lambda I)^-1 g|| (Def. 3.2), 1 / sqrt(I[n, n])
    (Def. 3.4). An example whose gradient is zero moves nothing and scores zero.
    """

    start: int
    gradients: Any
    features: Features
    norms: Tensor
    scales: Mapping[str, Tensor]


def test_block(
    curvature: Curvature, rotated: Mapping[str, LayerGradients], inputs: Tensor, precision: Precision
) -> TestBlock:
    """Make a test block from Q'g_t and the model's inputs."""
    norms = self_influence(curvature, rotated).sqrt()
    seen = features(inputs, precision)
    error = neighbour_error(precision, seen.exact.shape[1])
    return TestBlock(contraction(curvature, rotated, norms, precision), seen, norms, error)


def solved_block(solutions: Mapping[str, Tensor], inputs: Tensor, precision: Precision) -> TestBlock:
    """Make a test block from solutions (H + lambda I)^-1 g_t, [M, O, I] by layer; its norms are |s_t|.

    It meets gradients g_n as they are.
    """
    norms = torch.stack([values.flatten(1).norm(dim=1) for values in solutions.values()]).norm(dim=0)
    seen = features(inputs, precision)
    error = neighbour_error(precision, seen.exact.shape[1])
    return TestBlock(solved_contraction(solutions, norms), seen, norms, error)


def train_shard(
    block: TestBlock,
    gradients: Mapping[str, LayerGradients],
    denominators: Mapping[str, Tensor],
    inputs: Tensor,
    *,
    start: int,
) -> TrainShard:
    """Make a shard, to be scored against ``block``, from the gradients that the block reads and the model's inputs.

    ``denominators`` [N] by method are what influence is divided by.
    """
    norms = block.contraction.norms(gradients)
    scales = {"influence": torch.ones_like(norms)}
    scales |= {method: _reciprocal(values) for method, values in denominators.items()}
    exact = inputs.flatten(1).float()
    seen = Features(exact, exact.to(block.features.screen.dtype), exact.double().square().sum(dim=1))
    return TrainShard(start, block.contraction.prepare(gradients, norms), seen, norms, scales)


def score_tile(
    block: TestBlock,
    shard: TrainShard,
    rows: slice,
    running: Mapping[str, TopK],
    floors: Mapping[str, Tensor] | None = None,
) -> Tensor:
    """Update ``running`` (in place, some rows only) with a shard; return influence / (|w_t| |w_n|), [m, N] float32.

    A pair is scored exactly when its upper bound reaches the row's threshold, so the k best are exact; a pair that is
    left out is proven to be none of them. ``floors`` [M] are scores that k training examples are known to reach.
    """
    tile = block.contraction.tile(rows, shard.gradients)
    bounds = _upper_bounds(block, shard, tile)
    unfilled = [
        method for method in RELATIVE_METHODS if bool(_threshold(running, floors, method, rows).isneginf().any())
    ]
    first = _union([most_promising(bounds[method], running[method].k) for method in unfilled])
    if first is not None:
        _score_pairs(block, shard, rows, running, tile, first)
    norms = block.norms[rows]
    masks = []
    for method in RELATIVE_METHODS:
        threshold = (_threshold(running, floors, method, rows).double() - SMALLEST) / norms.clamp(min=TINY)
        masks.append(bounds[method] >= (threshold - SLACK).float()[:, None])
    rest = _union(masks)
    assert rest is not None
    rest = _earliest_for_zeros(rest, norms, running)
    _score_pairs(block, shard, rows, running, tile, rest if first is None else rest & ~first)
    return tile


def seed_tile(block: TestBlock, shard: TrainShard, rows: slice, seeds: Mapping[str, TopK], count: int) -> None:
    """Score each row's ``count`` most promising pairs of a shard exactly, into ``seeds`` (in place, some rows only).

    Over several shards that gives nearly the final thresholds for the price of few exact scores.
    """
    tile = block.contraction.tile(rows, shard.gradients)
    chosen = _union([most_promising(bounds, count) for bounds in _upper_bounds(block, shard, tile).values()])
    assert chosen is not None
    _score_pairs(block, shard, rows, seeds, tile, chosen)


def score_neighbours(block: TestBlock, shard: TrainShard, rows: slice, running: TopK) -> None:
    """Update the nearest neighbours of some test rows (in place) with a shard."""
    error = block.neighbour_error + ROUNDING
    bounds = neighbour_tile(block.features, rows, shard.features)
    first = most_promising(bounds, running.k) if bool(running.rows(rows).threshold().isneginf().any()) else None
    if first is not None:
        _measure_pairs(block, shard, rows, running, first)
    squares = block.features.squares[rows]
    thresholds = (squares - running.rows(rows).threshold().double().square()) / 2 - error / 2 * squares
    mask = bounds.add_((error / 2 * shard.features.squares).float()) >= thresholds.float()[:, None]
    _measure_pairs(block, shard, rows, running, mask if first is None else mask & ~first)


def most_promising(values: Tensor, k: int) -> Tensor:
    """Return a mask of each row's k largest values [m, N]: scored first, they give it its threshold."""
    mask = torch.zeros_like(values, dtype=torch.bool)
    places = values.topk(min(k, values.shape[1]), dim=1).indices
    return mask.scatter_(1, places, True)


def _upper_bounds(block: TestBlock, shard: TrainShard, tile: Tensor) -> dict[str, Tensor]:
    """Return what scores / |w_t| can be at most, [m, N] by method."""
    error = block.contraction.error + ROUNDING
    weights = {method: (shard.scales[method] * shard.norms).float() for method in RELATIVE_METHODS}
    return {method: torch.addcmul(error * weight, tile, weight) for method, weight in weights.items()}


def _earliest_for_zeros(mask: Tensor, norms: Tensor, running: Mapping[str, TopK]) -> Tensor:
    """Choose a shard's first k examples for test gradients that are zero: all their scores are, so the earliest win."""
    columns = torch.arange(mask.shape[1], device=mask.device) < running[RELATIVE_METHODS[0]].k
    return torch.where((norms > 0)[:, None], mask, columns)


def _threshold(running: Mapping[str, TopK], floors: Mapping[str, Tensor] | None, method: str, rows: slice) -> Tensor:
    reached = running[method].rows(rows).threshold()
    return reached if floors is None else torch.maximum(reached, floors[method][rows])


def _union(masks: Sequence[Tensor]) -> Tensor | None:
    return reduce(torch.logical_or, masks) if masks else None


def _score_pairs(
    block: TestBlock, shard: TrainShard, rows: slice, running: Mapping[str, TopK], tile: Tensor, mask: Tensor
) -> None:
    pairs = _pairs(mask)
    values = block.contraction.exact(tile, rows, pairs, shard.gradients)
    for method in RELATIVE_METHODS:
        _insert(running[method], rows, pairs, values * shard.scales[method][pairs[1]], shard.start)


def _measure_pairs(block: TestBlock, shard: TrainShard, rows: slice, running: TopK, mask: Tensor) -> None:
    pairs = _pairs(mask)
    _insert(running, rows, pairs, negative_distances(block.features, rows, pairs, shard.features), shard.start)


def _insert(running: TopK, rows: slice, pairs: Tensor, values: Tensor, start: int) -> None:
    insert_pairs(running.rows(rows), pairs[0], values.float(), pairs[1] + start)


def _pairs(mask: Tensor) -> Tensor:
    """Return the set places of a mask as [2, B], row by row."""
    if mask.device.type == "cpu":
        # NumPy skips empty stretches of a mask several times faster than torch.nonzero.
        flat = torch.from_numpy(mask.numpy().ravel().nonzero()[0])
    else:
        flat = mask.flatten().nonzero().flatten()
    return torch.stack([flat // mask.shape[1], flat % mask.shape[1]])


def _reciprocal(values: Tensor) -> Tensor:
    return torch.where(values > 0, 1 / torch.where(values > 0, values, 1.0), 0.0)
