"""Suspicion and support by counting one by one; neighbours that say nothing count nothing."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.influence.suspicion import MOST, neighbour_weight, support, suspicion

EQUAL = torch.full((4,), 0.25).double()


def agreeing(share: float, count: int = 1000) -> tuple[Tensor, Tensor]:
    """Return labels, all 0, and one neighbour of each, of which so many have the same."""
    return torch.zeros(count).long(), (torch.arange(count) >= round(share * count)).long()[:, None]


@pytest.mark.parametrize(("share", "weight"), [(0.25, 0.0), (0.1, 0.0), (0.625, 1.0), (0.85, 4.0), (1.0, MOST / 0.05)])
def test_neighbours_count_by_their_agreement_beyond_chance(share: float, weight: float) -> None:
    labels, neighbours = agreeing(share)
    assert neighbour_weight(labels, neighbours, EQUAL) == pytest.approx(weight)


def test_neighbours_count_nothing_where_there_is_nothing_to_agree_on() -> None:
    labels, neighbours = agreeing(1.0)
    assert neighbour_weight(labels, neighbours, torch.tensor([1.0, 0.0])) == 0.0
    assert neighbour_weight(labels[:0], neighbours[:0], EQUAL) == 0.0
    # Nine in ten have the same label: agreement in 82 of 100 is what chance gives.
    assert neighbour_weight(*agreeing(0.82), torch.tensor([0.9, 0.1])) == pytest.approx(0.0, abs=1e-6)


def test_support_is_probability_and_share() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=torch.float64)
    neighbours = torch.tensor([[1, 1, 1, 0], [2, 0, 1, 2]])
    expected = torch.tensor(
        [
            [(0.7 + 2 * 1 / 4) / 3, (0.2 + 2 * 3 / 4) / 3, 0.1 / 3],
            [(0.1 + 2 * 1 / 4) / 3, (0.1 + 2 * 1 / 4) / 3, (0.8 + 2 * 2 / 4) / 3],
        ],
        dtype=torch.float64,
    )
    torch.testing.assert_close(support(probabilities, neighbours, 2.0), expected)
    torch.testing.assert_close(support(probabilities, neighbours[:, :0], 0.0), probabilities)


def test_suspicion_is_the_mean_of_place_and_disagreement() -> None:
    losses, labels = torch.tensor([5.0, 9.0, 7.0, 5.0]), torch.tensor([0, 1, 2, 2])
    neighbours = torch.tensor([[0, 0], [0, 1], [0, 1], [2, 1]])
    places, other = [1 / 4, 4 / 4, 3 / 4, 2 / 4], [0, 1 / 2, 1, 1 / 2]
    for weight in (0.0, 1.0, 3.0):
        expected = [(place + weight * each) / (1 + weight) for place, each in zip(places, other, strict=True)]
        assert suspicion(losses, labels, neighbours, weight).tolist() == pytest.approx(expected)
    assert suspicion(losses, labels, neighbours[:, :0], 0.0).tolist() == places
