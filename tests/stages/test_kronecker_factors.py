"""What is said of factors that are kept as diagonals; the factors themselves are tested with their stage."""

import pytest
from torch import nn

from relatif.pipeline.curvature import sides
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.stages.factors import described


def test_coverage_tells_which_moments_are_diagonals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sides, "WIDEST_MOMENT", 8)
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Linear(9, 3))

    told = {parameter["name"]: parameter["reason"] for parameter in described(coverage(model))}

    assert told["0.weight"].endswith(", a diagonal for the 9 outputs of layer '0'")
    assert told["2.bias"].endswith(", a diagonal for the 10 inputs of layer '2'")
