"""Gradients kept as the factors of all positions, of uses of two kinds: a word embedding and the head tied to it."""

import torch

from relatif.pipeline.curvature.positions import PositionGradients
from relatif.pipeline.curvature.sides import OneHot, bytes_of, dense

torch.set_num_threads(1)

N, T, V, E = 3, 4, 6, 5


def test_uses_of_two_kinds_are_one_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    words = OneHot(torch.randint(0, V, (N, T), generator=generator), V, torch.ones(N, T, dtype=torch.float64))
    looked_up, states = (torch.randn(N, T, E, generator=generator, dtype=torch.float64) for _ in range(2))
    scored = torch.randn(N, T, V, generator=generator, dtype=torch.float64)
    tied = PositionGradients(((words, looked_up), (scored, states)))
    expected = torch.einsum("ntv,nte->nve", dense(words), looked_up) + torch.einsum("ntv,nte->nve", scored, states)
    weights, basis = torch.rand(V, E, dtype=torch.float64), torch.randn(E, E, dtype=torch.float64)

    assert (tied.shape, tied.count, tied.is_held) == ((V, E), N, False)
    assert tied.nbytes == bytes_of(words) + 8 * N * T * (2 * E + V)
    torch.testing.assert_close(tied.dense(), expected)
    torch.testing.assert_close(tied.rotate(None, basis).dense(), expected @ basis)
    torch.testing.assert_close(tied.weighted_norms(weights)[0], (weights * expected.square()).sum(dim=(1, 2)))
    torch.testing.assert_close(tied.rows(slice(1, 2)).dense(), expected[1:2])
