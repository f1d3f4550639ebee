"""Influence summed by class, against the sums over every pair."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.explaining.class_sums import summed_influence
from relatif.pipeline.explaining.engine import load_engine
from relatif.pipeline.runs.opening import open_finished
from tests.support.explained_runs import TRAINING, finished

QUERIES, GROUPS = 9, 3


@pytest.mark.parametrize("method", ["logistic", "exact"])
def test_sums_are_those_over_every_pair(tmp_path: Path, method: str) -> None:
    engine = load_engine(open_finished(str(finished(tmp_path, method))))
    queries = engine.rows("test", range(QUERIES))
    draws = torch.Generator().manual_seed(3)
    # Some are in no group.
    asked = torch.randint(-1, GROUPS + 1, (QUERIES,), generator=draws)
    given = torch.randint(-1, GROUPS + 1, (TRAINING,), generator=draws)
    pairs = engine.influence(queries, torch.arange(TRAINING).expand(QUERIES, -1))
    expected = torch.tensor([[float(pairs[asked == a][:, given == b].sum()) for b in range(GROUPS)] for a in range(3)])
    found = summed_influence(engine, queries, asked, given, GROUPS)
    assert expected.abs().min() > 0
    torch.testing.assert_close(found, expected.double(), rtol=1e-6, atol=1e-7 * float(pairs.abs().max()))
