"""Rows of several passes, joined: every part in order, rank-one gradients kept rank-one."""

import torch

from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients
from relatif.pipeline.explaining.examples import ExplainedExamples, joined


def rows(first: int, count: int) -> ExplainedExamples:
    generator = torch.Generator().manual_seed(first)
    outputs, inputs = torch.randn(count, 2, generator=generator), torch.randn(count, 3, generator=generator)
    dense = DenseGradients(torch.randn(count, 4, 5, generator=generator))
    indices = torch.arange(first, first + count)
    return ExplainedExamples({"head": FactoredGradients(outputs, inputs), "body": dense}, inputs, {"index": indices})


def test_parts_follow_each_other() -> None:
    parts = [rows(10, 4), rows(14, 1), rows(15, 3)]

    whole = joined(parts)

    assert whole.columns["index"].tolist() == list(range(10, 18))
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert isinstance(whole.gradients["head"], FactoredGradients)
    for name in ("head", "body"):
        assert torch.equal(whole.gradients[name].dense(), torch.cat([part.gradients[name].dense() for part in parts]))


def test_a_single_part_is_not_copied() -> None:
    part = rows(0, 2)
    assert joined([part]) is part
