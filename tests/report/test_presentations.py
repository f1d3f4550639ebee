"""What is printed of an evaluation and drawn into its run: its own text and picture, or else its table."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from relatif.pipeline.evaluations.evaluate import EVALUATIONS
from relatif.pipeline.report.evaluations import class_agreement_text
from relatif.pipeline.report.linear_datamodeling import draw_correlations, linear_datamodeling_text
from relatif.pipeline.report.presentations import PRESENTATIONS, present
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import write_table
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import MissingStageError
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import TABLES
from tests.support.images import write_images
from tests.support.runs import config
from tests.support.table_rows import number_columns

TRAINING = 100
ADDED_UP = [name for name, method in METHODS.items() if method.additive]

LOSSES = {
    f"own_losses_of_{name}": TableSpec(
        f"own_losses_of_{name}",
        "an evaluation of the user's own",
        pa.schema([pa.field("method", pa.string()), pa.field("count", pa.int64()), pa.field("loss", pa.float64())]),
    )
    for name in ("one", "none")
}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run on images whose labels are flipped, without any work done."""
    data = write_images(tmp_path / "data", train=TRAINING)
    return open_run(config(data, "data.flip_share=0.2", "data.shard_rows=50"), str(tmp_path / "run"))


def put(run: Run, name: str, rows: list[dict[str, object]], **metadata: str) -> pa.Table:
    """Write a table of the run; columns that a row does not give are 0."""
    spec = {**TABLES, **LOSSES}[name]
    full = [{**dict.fromkeys(number_columns(spec), 0), **row} for row in rows]
    table = pa.Table.from_pylist(full, spec.schema)
    write_table(run.store, f"{run_directory.table(name)}/part-00000.parquet", table, spec, metadata)
    return table


def pictures(run: Run) -> list[str]:
    folder = Path(run.store.describe())
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*.png")]


def test_presentations_are_of_evaluations() -> None:
    assert PRESENTATIONS.keys() <= EVALUATIONS.keys()


def test_an_evaluation_without_a_presentation_is_printed_as_its_table(run: Run) -> None:
    rows = [
        {"method": "influence", "count": 1200, "loss": 0.123456},
        {"method": "l_relatif", "count": 7, "loss": None},
    ]
    put(run, "own_losses_of_one", rows)
    assert present(run, "own_losses_of_one") == (
        "own_losses_of_one\n\nmethod     count  loss\ninfluence  1200   0.1235\nl_relatif  7      None"
    )
    assert pictures(run) == []


def test_a_table_without_rows_is_printed_as_its_header(run: Run) -> None:
    put(run, "own_losses_of_none", [])
    assert present(run, "own_losses_of_none") == "own_losses_of_none\n\nmethod  count  loss"


def test_an_evaluation_that_is_not_finished_has_no_presentation(run: Run) -> None:
    for name in (*PRESENTATIONS, "own_losses_of_one"):
        with pytest.raises(MissingStageError):
            present(run, name)
    assert pictures(run) == []


def test_class_agreement_is_text_alone(run: Run) -> None:
    rows = [{"method": method, "test": "identical_class", "test_count": 40, "share": 0.5} for method in METHODS]
    table = put(run, "class_agreement", rows)
    assert present(run, "class_agreement") == class_agreement_text(table)
    assert pictures(run) == []


def test_linear_datamodeling_is_text_and_the_picture_of_its_pairs(run: Run) -> None:
    generator = np.random.default_rng(0)
    pairs = [
        {"method": method, "test_index": test, "subset": subset, "score_sum": generator.random(), "loss": subset % 5}
        for method in ADDED_UP
        for test in range(3)
        for subset in range(10)
    ]
    said = {"trainings": "1", "subsets": "50 of 100 training examples each", "curvature": "kfac", "damping": "0.1"}
    scores = put(run, "linear_datamodeling_score", [{"method": name, "subset_count": 10} for name in ADDED_UP], **said)
    table = put(run, "linear_datamodeling", pairs)

    text = present(run, "linear_datamodeling")

    path = run_directory.LINEAR_DATAMODELING
    assert text == f"{linear_datamodeling_text(scores, said)}\n\nfigure: {run.store.describe(path)}"
    assert run.store.read_bytes(path) == draw_correlations(table)
    assert pictures(run) == [path]


def test_mislabel_detection_is_text_and_the_picture_of_its_curves(run: Run) -> None:
    put(run, "train_examples", [{"train_index": row, "loss": (7 * row) % 31, "label": 1} for row in range(TRAINING)])
    put(run, "mislabel_detection", [{"ranking": "loss", "inspected_share": 0.1, "found_share": 0.5, "area": 0.75}])

    text = present(run, "mislabel_detection")

    path = run_directory.MISLABEL_DETECTION
    assert text.startswith("mislabel_detection: share of the flipped labels found")
    assert text.endswith(f"best by area: loss (0.7500; 0.5 is chance)\n\nfigure: {run.store.describe(path)}")
    first = run.store.read_bytes(path)
    assert Image.open(io.BytesIO(first)).format == "PNG"
    present(run, "mislabel_detection")
    assert run.store.read_bytes(path) == first
    assert pictures(run) == [path]
