"""Candidates: whatever the true scores are within their bounds, the k best are among them; and few others."""

import pytest
import torch

from relatif.pipeline.influence.candidates import near_candidates, score_candidates

N, M = 300, 4


@pytest.mark.parametrize("k", [1, 7])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_are_candidates_wherever_scores_lie_within_their_bounds(k: int, sign: int) -> None:
    generator = torch.Generator().manual_seed(k)
    true = torch.rand(M, N, generator=generator, dtype=torch.float64) * 2 - 1
    # Close scores that rounding may exchange, and equal ones.
    true[:, 1::2] = true[:, ::2] + 1e-3 * (torch.rand(M, N // 2, generator=generator, dtype=torch.float64) - 0.5)
    true[:, 30:40] = true.amax(dim=1, keepdim=True)
    weights = sign * torch.rand(N, generator=generator, dtype=torch.float64)
    errors = torch.full((M, N), 2e-3)
    lengths = torch.tensor([1.0, 1e-30, 1e30, 0.5]).double()
    for worst in (-1.0, 1.0, torch.rand(M, N, generator=generator) * 2 - 1):
        cosines = (true + worst * 2e-3).float()
        found = score_candidates(cosines, errors, weights, lengths, k)
        best = (true * weights).float().topk(k, dim=1)
        assert bool(found[best.indices].all())
        # Equal scores too: the smaller row wins among them.
        ties = ((true * weights).float() == best.values[:, -1:]).any(dim=0)
        assert bool(found[ties].all())
        assert int(found.sum()) < N / 2


def test_of_a_query_without_gradient_the_first_examples_are_candidates() -> None:
    found = score_candidates(torch.zeros(1, N), torch.zeros(1, N), torch.ones(N).double(), torch.zeros(1).double(), 3)
    assert found.nonzero().flatten().tolist() == [0, 1, 2]


def test_the_nearest_are_candidates() -> None:
    lower = torch.tensor([[1.0, 2.0, 5.0, 2.9]])
    upper = torch.tensor([[3.0, 4.0, 6.0, 3.5]])
    assert near_candidates(lower, upper, 1).tolist() == [True, True, False, True]
    assert near_candidates(lower, upper, 4).all()
