"""Places by distance, compared with sorting all distances; equal and nearly equal ones among them."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.influence.places import Placed, distances

TRAINING, FEATURES = 60, 9


def placed(queries: Tensor, training: Tensor, rows: Tensor, cut: int) -> Tensor:
    """Return the places, counted shard after shard of ``cut`` rows."""
    apart = torch.stack([distances(query, training[row]) for query, row in zip(queries, rows, strict=True)])
    asked = Placed(queries, rows, apart)
    parts = [asked.nearer(training[start : start + cut], start) for start in range(0, len(training), cut)]
    return 1 + torch.stack(parts).sum(dim=0)


def sorted_places(queries: Tensor, training: Tensor, rows: Tensor) -> list[list[int]]:
    found = []
    for query, asked in zip(queries, rows, strict=True):
        apart = (training.double() - query.double()).square().sum(dim=1).sqrt().float().tolist()
        order = sorted(range(len(apart)), key=lambda row: (apart[row], row))
        found.append([order.index(row) + 1 for row in asked.tolist()])
    return found


@pytest.mark.parametrize("kind", ["random", "equal", "nearly equal", "huge", "far from 0"])
@pytest.mark.parametrize("cut", [7, TRAINING])
def test_places_are_those_of_sorting(kind: str, cut: int) -> None:
    generator = torch.Generator().manual_seed(2)
    training = torch.randn(TRAINING, FEATURES, generator=generator)
    queries = torch.randn(3, FEATURES, generator=generator)
    if kind == "equal":
        training = training.sign()
        queries = queries.sign()
    if kind == "nearly equal":
        # Distances that differ in the last bits of float32, or not at all there.
        training = queries[0] + torch.nn.functional.normalize(training) * (1 + torch.arange(TRAINING)[:, None] * 2e-8)
    if kind == "huge":
        training, queries = training * 1e15, queries * 1e15
    if kind == "far from 0":
        training, queries = training + 3e4, queries + 3e4
    rows = torch.randint(0, TRAINING, (3, 25), generator=generator)
    found = placed(queries, training.float(), rows, cut)
    assert found.tolist() == sorted_places(queries, training.float(), rows)


def test_a_query_that_is_a_training_example_is_the_nearest_of_its_copies() -> None:
    training = torch.ones(4, 2)
    assert placed(training[:1], training, torch.tensor([[3, 0, 2]]), 2).tolist() == [[4, 1, 3]]
