"""Rankings of training examples with flipped labels, on hand-written tables, against loops over rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.evaluations.mislabel_detection import (
    INSPECTED_SHARES,
    RANKINGS,
    detection_table,
    detections,
    queue_detection,
    right_suggestions,
)
from relatif.pipeline.evaluations.suspects import Suspects
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from relatif.schemas.tables import MISLABEL_DETECTION, TRAIN_EXAMPLES
from tests.support.table_rows import filled, number_columns

TRAINING = 230
LABELLING = Labelling(flip_share=0.2, flip_seed=5)
FLIPPED = LABELLING.flipped(torch.arange(TRAINING)).numpy()
ROUNDING = 1e-12
"""Absolute: the reference adds up to 230 float64 numbers."""


def training_rows(**changes: np.ndarray) -> pa.Table:
    random = np.random.default_rng(0)
    columns = {name: random.random(TRAINING) + 0.1 for name in number_columns(TRAIN_EXAMPLES)[3:]}
    columns["loss"] += FLIPPED * random.random(TRAINING)
    index = np.arange(TRAINING)
    zeros = np.zeros(TRAINING)
    names = {"train_index": index, "label": zeros, "predicted_label": zeros, **columns, **changes}
    return filled(TRAIN_EXAMPLES, names)


def write(folder: Path, table: pa.Table, *, files: int = 1) -> Path:
    (folder / "train_examples").mkdir(parents=True)
    order = np.random.default_rng(files).permutation(TRAINING) if files > 1 else np.arange(TRAINING)
    for number, rows in enumerate(np.array_split(order, files)):
        pq.write_table(table.take(rows), folder / f"train_examples/part-{number:05d}.parquet", row_group_size=30)
    return folder


def table(folder: Path) -> pa.Table:
    return detection_table(detections(open_store(folder), LABELLING))


def test_shares_and_areas_are_those_of_a_loop_over_rows(tmp_path: Path) -> None:
    rows = training_rows().to_pylist()
    values = {
        "self_influence": [row["self_influence"] for row in rows],
        "loss": [row["loss"] for row in rows],
        "gradient_norm": [row["gradient_norm"] for row in rows],
        "theta_norm": [row["theta_norm"] for row in rows],
        "self_influence / theta_norm": [row["self_influence"] / row["theta_norm"] for row in rows],
        "self_influence / gradient_norm": [row["self_influence"] / row["gradient_norm"] for row in rows],
    }
    found = table(write(tmp_path, training_rows()))

    assert found.schema.equals(MISLABEL_DETECTION.schema)
    keys = [(name, share) for name in values for share in (0.05, 0.1, 0.2)]
    assert [(row["ranking"], row["inspected_share"]) for row in found.to_pylist()] == keys
    for row in found.to_pylist():
        order = sorted(range(TRAINING), key=lambda place: -values[row["ranking"]][place])
        curve = np.concatenate([[0], np.cumsum(FLIPPED[order])]) / FLIPPED.sum()
        assert row["found_share"] == curve[round(row["inspected_share"] * TRAINING)]
        assert row["area"] == pytest.approx(np.trapezoid(curve, dx=1 / TRAINING), abs=ROUNDING)
    areas = {row["ranking"]: row["area"] for row in found.to_pylist()}
    assert max(areas, key=lambda name: areas[name]) == "loss"
    assert len(set(areas.values())) == len(RANKINGS)


@pytest.mark.parametrize("files", [2, 9])
def test_files_and_order_of_rows_change_nothing(tmp_path: Path, files: int) -> None:
    whole = table(write(tmp_path / "whole", training_rows()))
    assert table(write(tmp_path / "cut", training_rows(), files=files)).equals(whole)
    assert len(whole) == len(RANKINGS) * len(INSPECTED_SHARES)


def test_an_example_without_a_gradient_comes_last(tmp_path: Path) -> None:
    norms = np.ones(TRAINING)
    norms[FLIPPED] = 0
    nothing = dict.fromkeys(("gradient_norm", "theta_norm", "self_influence"), norms)
    found = detections(open_store(write(tmp_path, training_rows(**nothing))), LABELLING)
    for name in set(RANKINGS) - {"loss"}:
        assert found[name].places.tolist() == list(range(TRAINING - FLIPPED.sum() + 1, TRAINING + 1)), name


def test_what_is_no_number_and_a_run_without_a_flip_are_refused(tmp_path: Path) -> None:
    losses = np.ones(TRAINING)
    losses[17] = np.nan
    with pytest.raises(DataError, match="found none for row 17"):
        table(write(tmp_path / "nan", training_rows(loss=losses)))
    with pytest.raises(DataError, match="expected a wrong label among 230"):
        detections(open_store(write(tmp_path / "none", training_rows())), Labelling())


def queue(order: list[int], suggested: list[int], classes: int = 3) -> Suspects:
    """Return suspects whose order and suggestions alone are looked at: the first rows of ``order``."""
    none = torch.zeros(0)
    support = torch.nn.functional.one_hot(torch.tensor(suggested), classes).double()
    rows = torch.tensor(order)
    return Suspects(rows[: len(suggested)], rows, none, none, none, none, none, none, none, support, 0.0, 0.0)


def test_the_queue_is_inspected_in_its_own_order_and_suggests_labels() -> None:
    """Of 20 examples rows 3, 5 and 19 are flipped: places 1, 3 and 20; shares of 5, 10 and 20% are 1, 2 and 4 rows."""
    order = [3, 0, 5, 1, 2, 4, *range(6, 20)]
    flipped = torch.zeros(20, dtype=torch.bool)
    flipped[[3, 5, 19]] = True
    labels = torch.zeros(20).long()
    labels[[3, 5]] = torch.tensor([2, 1])
    found = queue_detection(queue(order, [2, 0, 0]), flipped)
    assert found.places.tolist() == [1, 3, 20]
    assert right_suggestions(queue(order, [2, 0, 0]), flipped, labels) == {0.05: 1.0, 0.1: 1.0, 0.2: 0.5}
    assert right_suggestions(queue(order, [2, 0, 1]), flipped, labels) == {0.05: 1.0, 0.1: 1.0, 0.2: 1.0}
    assert right_suggestions(queue(order, [2, 0]), flipped, labels)[0.2] == 0.5, "row 5 is no suspect"
    assert right_suggestions(queue([*order[1:], 3], [2, 0]), flipped, labels)[0.05] is None
