"""Sums of pairs: those of float64 arithmetic, and bit by bit the same wherever a pair stands."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.influence.pair_sums import PAIRS, PairSums, filled_up

torch.set_num_threads(1)

SHAPES = [(1, 1), (1, 9), (10, 785), (33, 5), (24, 24), (100, 257)]


def factors(shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(sum(shape))
    sizes = (shape, (PAIRS, shape[0]), (PAIRS, shape[1]))
    weights, outputs, inputs = (torch.randn(size, dtype=torch.float64, generator=generator) for size in sizes)
    return weights.exp(), outputs, inputs


@pytest.mark.parametrize("alike", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_they_are_the_weighted_sums(shape, alike, monkeypatch) -> None:
    weights, outputs, inputs = factors(shape)
    monkeypatch.setattr(PairSums, "are_alike", alike)

    found = PairSums(weights)(outputs, inputs)

    terms = weights * outputs[:, :, None] * inputs[:, None, :]
    assert bool(((found - terms.sum(dim=(1, 2))).abs() <= 1e-13 * terms.abs().sum(dim=(1, 2))).all())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_pair_is_summed_alike_in_every_place(shape) -> None:
    weights, outputs, inputs = factors(shape)
    sums = PairSums(weights)
    whole = sums(outputs, inputs)

    for seed in range(3):
        order = torch.randperm(PAIRS, generator=torch.Generator().manual_seed(seed))
        assert torch.equal(sums(outputs[order], inputs[order]), whole[order])


def test_products_that_differ_by_place_are_not_used(monkeypatch) -> None:
    """As where a library treats its last rows by other instructions."""
    weights, outputs, inputs = factors((10, 785))
    real = Tensor.__matmul__

    def by_place(left: Tensor, right: Tensor) -> Tensor:
        found = real(left, right)
        found[-1] *= 1 + 2.0**-50
        return found

    monkeypatch.setattr(Tensor, "__matmul__", by_place)
    sums = PairSums(weights)

    assert not sums.are_alike
    order = torch.arange(PAIRS).flip(0)
    assert torch.equal(sums(outputs[order], inputs[order]), sums(outputs, inputs)[order])


@pytest.mark.parametrize("count", [1, PAIRS - 1, PAIRS, PAIRS + 1])
def test_pairs_are_filled_up_with_pairs_that_are_there(count) -> None:
    pairs = torch.stack([torch.arange(count) + 5, torch.arange(count) + 7])

    found = filled_up(pairs)

    assert found.shape[1] % PAIRS == 0
    assert torch.equal(found[:, :count], pairs)
    assert torch.equal(found[:, count:], pairs[:, :1].expand(2, found.shape[1] - count))
