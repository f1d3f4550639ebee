"""Sums of scores over subsets, against the tables of a run that wrote its dense scores."""

from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.chosen_pairs import ChosenPairsPlan
from relatif.pipeline.explaining.subset_scores import (
    SubsetScorePlan,
    SubsetScoreUnit,
    load_sums,
    relative,
    summable,
)
from relatif.pipeline.retraining.subsets import Subsets
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.stages.score import group_shards
from relatif.schemas.methods import METHODS, PAPER_METHODS
from tests.support.images import write_images
from tests.support.proofs import prove_files
from tests.support.runs import config, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS = 200, 20
CHOSEN = (0, 3, 19)
SETTINGS = (
    "data.shard_rows=50",
    "score.top_k=3",
    f"score.test_limit={TESTS}",
    "score.write_scores=true",
    "train.tolerance=1e-3",
    "curvature.damping=0.01",
)
FLOAT32 = 2e-6
"""Of the largest sum of absolute scores: the tables hold float32."""


@pytest.mark.parametrize("method", ["kfac", "exact", "cg"])
def test_sums_are_those_of_the_runs_tables_whatever_the_units(tmp_path: Path, method: str) -> None:
    data = write_images(tmp_path / "data", train=TRAINING)
    made = config(data, *SETTINGS, f"curvature.method={method}")
    run_named(made, tmp_path / "run", "train", "factors", "score")
    run = open_run(made, str(tmp_path / "run"))
    subsets = Subsets(TRAINING, 0.5, 1)
    test_shards = run.dataset.shards("test", rows=50, limit=TESTS)
    pairs = ChosenPairsPlan(run.source, run.train_shards, test_shards, "predicted", run.config.curvature)
    plan = SubsetScorePlan(pairs, CHOSEN, summable(PAPER_METHODS), subsets.mask(4))
    found = []
    for threads, rows in ((1, 50), (2, 150)):
        groups = enumerate(group_shards(run.train_shards, rows))
        units = [SubsetScoreUnit(index, shards, "digest") for index, shards in groups]
        scorer = plan(Worker(threads))
        for unit in reversed(units):
            prove_files(run.store, unit.manifest, scorer(unit).outputs)
        found.append(load_sums(run.store, units))

    written = tables(tmp_path / "run")
    dense = np.zeros((TESTS, TRAINING))
    for row in written["scores"].to_pylist():
        start = row["train_start"]
        dense[row["test_index"], start : start + len(row["influence"])] = row["influence"]
    train = written["train_examples"]
    denominators = {
        "influence": np.ones(TRAINING),
        "theta_relatif": train["theta_norm"].to_numpy(),
        "l_relatif": np.sqrt(train["self_influence"].to_numpy()),
    }
    mask = subsets.mask(4).double().numpy()
    for sums in found:
        assert set(sums) == set(denominators)
        for name, values in sums.items():
            scores = dense[list(CHOSEN)] / denominators[name]
            scale = (np.abs(scores) @ mask).max()
            np.testing.assert_allclose(values.numpy(), scores @ mask, atol=FLOAT32 * scale)


def test_an_example_without_gradient_counts_nothing() -> None:
    influence, norms = torch.tensor([[2.0, 0.0]]).double(), torch.tensor([4.0, 0.0]).double()
    assert relative(METHODS["theta_relatif"], influence, {"theta_norm": norms}).tolist() == [[0.5, 0.0]]
    assert relative(METHODS["l_relatif"], influence, {"self_influence": norms}).tolist() == [[1.0, 0.0]]


def test_what_is_summed_adds_up_and_stands_for_itself() -> None:
    assert summable(METHODS) == ("influence", "theta_relatif", "l_relatif")
