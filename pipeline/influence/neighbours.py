"""Nearest neighbours by l2 distance in input space, screened like influence and measured exactly.

Axes: M test inputs, m of them in a tile, N training examples of a shard, B pairs, D features.
With h = x_t . x_n - |x_n|^2 / 2, the squared distance is |x_t|^2 - 2 h: the largest h is the nearest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.influence.pair_sums import PAIRS
from relatif.pipeline.influence.precision import FLOAT32_UNIT, Precision
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.inputs import features as numbers_of


@dataclass(frozen=True)
class Features:
    """Inputs [N, D] float32, the same in the screening dtype, and their squared norms [N] float64."""

    exact: Tensor
    screen: Tensor
    squares: Tensor


def features(inputs: Inputs, precision: Precision) -> Features:
    """Flatten inputs [N, ...] to features."""
    exact = numbers_of(inputs)
    return Features(exact, exact.to(precision.dtype), exact.double().square().sum(dim=1))


def neighbour_error(precision: Precision, feature_count: int) -> float:
    """Bound |h~ - h| in units of (|x_t|^2 + |x_n|^2) / 2, which is at least |x_t| |x_n|."""
    # Both inputs and their product are rounded to the dtype; the sums over D are float32.
    return (1 + precision.unit) ** 3 - 1 + (feature_count + 32) * FLOAT32_UNIT


def neighbour_tile(test: Features, rows: slice, train: Features) -> Tensor:
    """Return h within the bound, [m, N] float32."""
    return (test.screen[rows] @ train.screen.T).float().sub_((train.squares / 2).float())


def negative_distances(test: Features, rows: slice, pairs: Tensor, train: Features) -> Tensor:
    """Return ``-||x_t - x_n||`` of pairs (tile row, shard column) [2, B] from float64 differences, [B]."""
    lines, columns = pairs[0] + rows.start, pairs[1]
    # From differences: |x_t|^2 - 2 h would lose the digits of small distances.
    values = [
        (test.exact[line].double() - train.exact[column].double()).square().sum(dim=1).sqrt().neg()
        for line, column in zip(lines.split(PAIRS), columns.split(PAIRS), strict=True)
    ]
    return torch.cat(values) if values else lines.new_empty(0, dtype=torch.float64)
