"""A regression through every stage: its tables, leaving examples out in closed form, and models of halves."""

from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from tests.support.regression import ROWS, TASK, VARIANCE, write_numbers
from tests.support.runs import config, run_named, tables

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.long]

DECAY, CHOSEN, SUBSETS = 0.1, 4, 12
SETTINGS = (
    "data.shard_rows=20",
    "score.top_k=5",
    "curvature.method=exact",
    f"train.weight_decay={DECAY}",
    f"curvature.damping={DECAY}",
    f"leave_one_out.test_count={CHOSEN}",
    f"linear_datamodeling.test_count={CHOSEN}",
    f"linear_datamodeling.subset_count={SUBSETS}",
)
STORED = 1e-5
"""Relative: the trained model is stored in float32, the models that are trained again in float64."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_numbers(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    out = tmp_path_factory.mktemp("runs") / "finished"
    run_named(config(data, *SETTINGS, task=TASK), out)
    run_named(config(data, *SETTINGS, task=TASK), out, "leave_one_out")
    return out


def rows(data: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs with a constant 1, and targets."""
    dataset = open_dataset(open_store(data))
    parts = [read_shard(open_store(data), dataset, shard) for shard in dataset.shards(split, rows=1000)]
    inputs = np.concatenate([part.inputs.numpy() for part in parts]).astype(np.float64)
    targets = np.concatenate([part.labels.numpy() for part in parts]).astype(np.float64)
    return np.hstack([inputs, np.ones((len(inputs), 1))]), targets[:, 0]


def test_tables_hold_targets_and_predictions_in_place_of_labels(finished: Path, data: Path) -> None:
    (inputs, targets), (tests, _) = rows(data, "train"), rows(data, "test")
    left = inputs.T @ inputs / (len(inputs) * VARIANCE) + DECAY * np.eye(inputs.shape[1])
    theta = np.linalg.solve(left, inputs.T @ targets / (len(inputs) * VARIANCE))
    written = tables(finished)
    for name, folded in (("train_examples", inputs), ("test_examples", tests)):
        assert written[name]["label"].null_count == len(folded)
        found = np.array(written[name]["prediction"].to_pylist())[:, 0]
        np.testing.assert_allclose(found, folded @ theta, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.array(written["train_examples"]["target"].to_pylist())[:, 0], targets)
    assert written["influence_sets"]["probability_mean"].null_count == written["influence_sets"].num_rows
    said = table_metadata(open_store(finished / "tables"), "top_k")
    assert said["measurement"].startswith("output of the predicted target")
    assert said["sign"].endswith("raises the test input's output")


def test_predicted_changes_over_one_minus_leverage_are_the_measured_ones(finished: Path, data: Path) -> None:
    inputs, _ = rows(data, "train")
    curvature = inputs.T @ inputs / (len(inputs) * VARIANCE) + DECAY * np.eye(inputs.shape[1])
    leverage = (inputs @ np.linalg.inv(curvature) * inputs).sum(axis=1) / (len(inputs) * VARIANCE)
    left_out = tables(finished)["leave_one_out"].to_pylist()
    assert len(left_out) == 4 * CHOSEN
    for row in left_out:
        # The output is linear in the parameters, so nothing but the leverage is missing in the first order.
        predicted = row["predicted_test_loss_change"] / (1 - leverage[row["train_index"]])
        assert row["test_loss_change"] == pytest.approx(predicted, rel=STORED)
        assert row["corrected_test_loss_change"] == pytest.approx(predicted, rel=1e-9)
    helpful = [row for row in left_out if row["method"] != "nearest_neighbour"]
    assert all(row["test_loss_change"] > 0 for row in helpful), "leaving out what raises the output lowers it"


def test_summed_scores_order_the_outputs_of_models_of_halves(finished: Path, data: Path) -> None:
    run_named(config(data, *SETTINGS, 'evaluate.what=["linear_datamodeling"]', task=TASK), finished, "evaluate")
    scores = {row["method"]: row["score"] for row in tables(finished)["linear_datamodeling_score"].to_pylist()}
    assert scores["influence"] > 0.8
    assert ROWS["train"] == tables(finished)["train_examples"].num_rows
