"""Shards are cut where the gradients of their rows would not fit, and nowhere else."""

import torch

from relatif.pipeline.curvature.forms import DenseGradients
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import HELD_BYTES
from relatif.pipeline.explaining.shard_rows import ShardRows, cut, held_rows

FIRST, SECOND = Shard("train", 0, 0, 5, ()), Shard("train", 1, 5, 9, ())


def test_shards_are_cut_into_pieces_of_equal_rows_but_the_last() -> None:
    assert cut([FIRST, SECOND], 2) == [
        *(ShardRows(FIRST, start, stop) for start, stop in ((0, 2), (2, 4), (4, 5))),
        *(ShardRows(SECOND, start, stop) for start, stop in ((0, 2), (2, 4))),
    ]
    assert [piece.first for piece in cut([FIRST, SECOND], 2)] == [0, 2, 4, 5, 7]
    assert cut([FIRST, SECOND], 5) == [ShardRows(FIRST, 0, 5), ShardRows(SECOND, 0, 4)]


def test_rows_follow_the_size_of_their_gradients() -> None:
    small = {"layer": DenseGradients(torch.zeros(3, 2, 8, dtype=torch.float64))}
    assert held_rows(small) == HELD_BYTES // (2 * 8 * 8)

    both = {**small, "large": DenseGradients(torch.zeros(()).expand(3, 2**15, 2**15))}
    assert held_rows(both) == 1
