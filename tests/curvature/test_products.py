"""Fisher-vector products against the dense matrix."""

from types import ModuleType

import pytest
import torch

from relatif.pipeline import devices
from relatif.pipeline.curvature import products
from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.exact import fisher_strips, joint_matrix, strips_of
from relatif.pipeline.curvature.products import fisher_products
from tests.support.layered import CASES, subject_and_examples

torch.set_num_threads(1)

EXACT = 1e-11
"""Relative to the largest entry: float64 sums of a few hundred terms in another order."""


@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("kind", ["exact", "sampled", "empirical"])
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_dense_fisher(name: str, kind: str, count: int) -> None:
    subject, examples = subject_and_examples(name, kind, count)
    lower = joint_matrix(subject.coverage, fisher_strips(subject, examples, strips_of(subject.coverage)))
    dense = lower.tril() + lower.tril(-1).T
    vectors = torch.randn(5, len(dense), dtype=torch.float64)

    found = fisher_products(subject, examples, by_layer(vectors, subject.coverage.blocks))

    joined = torch.cat([values.flatten(1) for values in found.values()], dim=1)
    expected = vectors @ dense
    torch.testing.assert_close(joined, expected, rtol=0, atol=EXACT * float(expected.abs().max()))


@pytest.mark.parametrize(("module", "constant"), [(products, "PRODUCT_BYTES"), (devices, "CPU_PIECE_BYTES")])
@pytest.mark.parametrize("limit", [1, 3_000])
def test_how_work_is_cut_changes_nothing_but_rounding(
    module: ModuleType, constant: str, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, examples = subject_and_examples("images", "sampled", 9)
    size = subject.coverage.covered_count
    vectors = by_layer(torch.randn(4, size, dtype=torch.float64), subject.coverage.blocks)
    whole = fisher_products(subject, examples, vectors)
    monkeypatch.setattr(module, constant, limit)
    for name, values in fisher_products(subject, examples, vectors).items():
        torch.testing.assert_close(values, whole[name], rtol=0, atol=EXACT * float(whole[name].abs().max()))
