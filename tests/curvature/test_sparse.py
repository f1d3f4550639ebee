"""Gradients of embeddings by words against the same gradients by entries."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature import sparse
from relatif.pipeline.curvature.forms import DenseGradients
from relatif.pipeline.curvature.gradients import concatenate
from relatif.pipeline.curvature.sides import OneHot, dense
from relatif.pipeline.curvature.sparse import NO_WORD, SparseGradients, sparse_gradients

torch.set_num_threads(1)

N, T, WIDTH, V = 5, 6, 3, 8


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparse, "PART_ENTRIES", 2 * N * WIDTH)


def drawn(seed: int, positions: int = T) -> tuple[SparseGradients, Tensor]:
    """Return gradients of words drawn with repetitions, some of weight zero, and all their entries."""
    generator = torch.Generator().manual_seed(seed)
    outputs = torch.randn(N, positions, WIDTH, generator=generator, dtype=torch.float64)
    weights = torch.randint(0, 3, (N, positions), generator=generator).double()
    words = OneHot(torch.randint(0, V, (N, positions), generator=generator), V, weights)
    return sparse_gradients(outputs, words), torch.einsum("nto,ntv->nov", outputs, dense(words))


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_every_word_stands_once_in_an_example() -> None:
    found, entries = drawn(0)

    for ids in found.ids:
        used = ids[ids != NO_WORD]
        assert len(used) == len(used.unique())
    assert (found.shape, found.count, found.nbytes) == ((WIDTH, V), N, N * T * (8 + 8 * WIDTH))
    close(found.dense(), entries)
    close(found.rows(slice(1, 3)).dense(), entries[1:3])


def test_operations_are_those_of_the_entries() -> None:
    found, entries = drawn(0)
    by_entries = DenseGradients(entries)
    weights, rows = torch.rand(WIDTH, V, dtype=torch.float64), torch.rand(N, dtype=torch.float64)
    left, right = torch.randn(WIDTH, WIDTH, dtype=torch.float64), torch.randn(V, V, dtype=torch.float64)

    close(found.weighted_norms(weights), by_entries.weighted_norms(weights))
    close(found.weighted_norms(found.ones())[0], entries.square().sum(dim=(1, 2)))
    close(found.squared_moments(rows), by_entries.squared_moments(rows))
    close(found.rotate(left, None).dense(), by_entries.rotate(left, None).dense())
    close(found.rotate(left, right).dense(), by_entries.rotate(left, right).dense())


def test_inner_products_meet_words_in_common() -> None:
    (one, first), (two, second) = drawn(0), drawn(1, positions=2)
    weights = torch.rand(WIDTH, V, dtype=torch.float64)
    expected = torch.einsum("noi,oi,moi->nm", first, weights, second)

    assert len(list(one.parts(N))) > 2
    for mine in (one, DenseGradients(first)):
        for other in (two, DenseGradients(second)):
            close(mine.inner_products(weights, other), expected)


def test_batches_of_other_lengths_are_joined_by_words() -> None:
    (one, first), (two, second) = drawn(0), drawn(1, positions=2)

    found = concatenate([one, two])

    assert isinstance(found, SparseGradients)
    close(found.dense(), torch.cat([first, second]))
    close(concatenate([two, DenseGradients(first)]).dense(), torch.cat([second, first]))
