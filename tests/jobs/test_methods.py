"""All six methods through a whole run: scores against dense references; every stage, evaluation and report after."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.jobs import evaluate as evaluate_job
from relatif.jobs import leave_one_out as leave_one_out_job
from relatif.jobs import run as run_job
from relatif.schemas import run_directory
from relatif.schemas.methods import METHODS, PAPER_METHODS
from tests.reference.fisher import damped_inverse, fisher
from tests.reference.scores import gradient_cosine, influence, top_k
from tests.reference.softmax import class_gradients, fold, probabilities
from tests.support.images import LOGISTIC, pixels, write_images
from tests.support.processes import job
from tests.support.runs import MNIST_CONFIG, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS, K, DAMPING = 120, 20, 5, 0.05
SETTINGS = (
    "data.shard_rows=50",
    f"score.top_k={K}",
    "train.tolerance=1e-4",
    f"train.weight_decay={DAMPING}",
    f"curvature.damping={DAMPING}",
    "curvature.method=exact",
    "leave_one_out.test_count=2",
    "linear_datamodeling.subset_count=10",
    "linear_datamodeling.test_count=3",
)
LATER_COLUMNS = ("target", "prediction", "train_id", "test_id")
CLOSE = 1e-5
"""Relative, of scores that the tables hold as float32."""


def arguments(data: Path, out: Path, methods: tuple[str, ...], *settings: str) -> list[str]:
    chosen = f"score.methods={list(methods)}"
    return job("run", MNIST_CONFIG, out, [f"task={LOGISTIC}", f"data.source={data}", *SETTINGS, chosen, *settings])[3:]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A whole run by all methods."""
    out = tmp_path_factory.mktemp("runs") / "six"
    assert run_job.main(arguments(data, out, tuple(METHODS))) == 0
    return out


def test_both_new_methods_are_those_of_dense_float64_gradients(out: Path, data: Path) -> None:
    from safetensors.numpy import load_file

    state = load_file(out / run_directory.CHECKPOINT)
    block = fold(state["linear.weight"].astype(float), state["linear.bias"].astype(float))
    (inputs, labels), (test_inputs, _) = pixels(data, "train"), pixels(data, "test")
    explained = tables(out)["test_examples"]["explained_label"].to_numpy()
    train = class_gradients(block, inputs)[np.arange(TRAINING), labels]
    test = class_gradients(block, test_inputs)[np.arange(TESTS), explained]
    inverse = damped_inverse(fisher(class_gradients(block, inputs), probabilities(block, inputs)), DAMPING)
    expected = {"gradient_cosine": gradient_cosine(test, train), "negative_influence": -influence(inverse, test, train)}
    written = tables(out)["top_k"].to_pylist()
    assert [row["method"] for row in written[::K]][: len(METHODS)] == list(METHODS)
    for method, matrix in expected.items():
        rows = [row for row in written if row["method"] == method]
        indices, values = top_k(matrix, K)
        assert [row["train_index"] for row in rows] == indices.ravel().tolist()
        np.testing.assert_allclose([row["score"] for row in rows], values.ravel(), rtol=CLOSE)


@pytest.mark.parametrize("methods", [tuple(METHODS), tuple(METHODS)[:5]], ids=["six", "five"])
def test_every_report_goes_through_the_methods_that_the_tables_hold(
    data: Path, out: Path, tmp_path: Path, methods: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = out if len(methods) == len(METHODS) else tmp_path / "run"
    titles = [METHODS[method].title for method in methods]
    assert run_job.main(arguments(data, folder, methods)) == 0
    printed = capsys.readouterr().out
    times = [printed.count(f"\n{METHODS[method].title}  ") for method in METHODS]
    assert times == [1, 1, 1, 1, 1, 0], "opponents are in the tables alone"
    assert set(tables(folder)["influence_sets"]["method"].to_pylist()) == set(methods)
    assert tables(folder)["overlap"].num_rows == 2 * len(methods) * (len(methods) - 1) // 2

    asked = f"leave_one_out.methods={list(methods)}"
    assert leave_one_out_job.main(arguments(data, folder, methods, asked)) == 0
    printed = capsys.readouterr().out
    assert [title for title in titles if printed.count(f"\n{title}  ") != 2] == [], "Tables 2 and 4"
    assert set(tables(folder)["leave_one_out"]["method"].to_pylist()) == set(methods)
    assert (folder / run_directory.LEAVE_ONE_OUT_PLOT).read_bytes().startswith(b"\x89PNG")

    what = "evaluate.what=['class_agreement', 'linear_datamodeling']"
    assert evaluate_job.main(arguments(data, folder, methods, what)) == 0
    printed = capsys.readouterr().out
    assert [title for title in titles if f"\n{title}  " not in printed] == []
    summed = tables(folder)["linear_datamodeling_score"]["method"].to_pylist()
    assert summed == ["influence", "theta_relatif", "l_relatif"], "cosines and distances don't add up"


def test_the_papers_four_are_the_same_whatever_is_scored_beside_them(data: Path, out: Path, tmp_path: Path) -> None:
    assert run_job.main(arguments(data, tmp_path / "run", PAPER_METHODS)) == 0
    four = tables(tmp_path / "run")
    assert four["top_k"].equals(of_the_paper(tables(out)["top_k"]))
    assert four["influence_sets"].equals(of_the_paper(tables(out)["influence_sets"]))


def of_the_paper(table: pa.Table) -> pa.Table:
    return table.filter(pa.compute.is_in(table["method"], pa.array(PAPER_METHODS))).combine_chunks()


def test_tables_of_an_earlier_version_stay_readable(out: Path, data: Path, tmp_path: Path) -> None:
    """Once there were four methods, no column could be null, and targets and identifiers had no columns."""
    for name in ("train_examples", "test_examples", "top_k"):
        table = tables(out)[name]
        if name == "top_k":
            table = of_the_paper(table)
        table = table.select([column for column in table.column_names if column not in LATER_COLUMNS])
        strict = pa.schema([field.with_nullable(False) for field in table.schema], table.schema.metadata)
        (tmp_path / "old/tables" / name).mkdir(parents=True)
        pq.write_table(table.cast(strict), tmp_path / "old/tables" / name / "part-00000.parquet")
    from relatif.jobs import statistics

    assert statistics.main(arguments(data, tmp_path / "old", PAPER_METHODS)) == 0
    assert tables(tmp_path / "old")["influence_sets"].equals(of_the_paper(tables(out)["influence_sets"]))
