"""Chosen test rows: which they are, and that their explanations are those of a run of all rows."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.evaluations.evaluation import with_chosen_tests
from relatif.pipeline.runs.chosen_tests import SEED, named_rows, selected
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas.config import ScoreConfig
from relatif.schemas.errors import ConfigurationError
from tests.support.images import PERCEPTRON, write_images
from tests.support.runs import config, run_named, tables

BASE = ("data.shard_rows=50", "score.top_k=5", "score.unit_rows=100", "train.tolerance=1e-3")
TESTS = 40
TABLES = ("test_examples", "top_k", "scores")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=100, test=TESTS, rows_per_group=15)


def opened(data: Path, tmp_path: Path, rows: object) -> Run:
    run = open_run(config(data, *BASE), str(tmp_path / "run"))
    return replace(run, config=run.config.model_copy(update={"score": ScoreConfig(test_rows=rows, top_k=5)}))


def test_rows_are_those_that_are_named_or_drawn(data: Path, tmp_path: Path) -> None:
    assert named_rows(opened(data, tmp_path, [7, 3, 7, 39])) == (3, 7, 39)
    drawn = named_rows(opened(data, tmp_path, "random:6"))
    assert drawn is not None
    assert len(set(drawn)) == 6
    assert list(drawn) == sorted(drawn)
    assert drawn == named_rows(opened(data, tmp_path, "random:6"))
    assert SEED == 0
    assert named_rows(opened(data, tmp_path, "random:40")) == tuple(range(40))
    assert named_rows(opened(data, tmp_path, None)) is named_rows(opened(data, tmp_path, "misclassified")) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([40], "below the 40 test inputs .*, found 40; leave it out"),
        ("random:41", "of at most the 40 test inputs, found 41"),
        (["a17"], "as row numbers where data.id_column names no column, found 'a17'"),
    ],
)
def test_rows_that_are_not_there_are_refused(data: Path, tmp_path: Path, rows: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        named_rows(opened(data, tmp_path, rows))


@pytest.mark.parametrize("text", ["random:0", "random:", "random:x", "wrong", [], [-1], [True]])
def test_settings_of_another_form_are_refused(text: object) -> None:
    with pytest.raises(ValueError, match="test_rows"):
        ScoreConfig(test_rows=text)


def test_selected_shards_hold_the_chosen_rows_by_position(data: Path, tmp_path: Path) -> None:
    run = opened(data, tmp_path, None)
    shards = run.dataset.shards("test", rows=15)
    (whole,) = run.dataset.shards("test", rows=100)
    every = read_shard(run.data, run.dataset, whole)
    rows = [2, 14, 31, 39]
    found = selected(shards, rows)
    assert [(shard.start, shard.stop) for shard in found] == [(0, 2), (2, 4)]
    read = [read_shard(run.data, run.dataset, shard) for shard in found]
    assert [label for part in read for label in part.labels.tolist()] == every.labels[rows].tolist()
    assert all((part.inputs == every.inputs[rows[part.start : part.start + 2]]).all() for part in read)


def test_what_counts_test_inputs_from_0_is_refused(data: Path, tmp_path: Path) -> None:
    assert with_chosen_tests(opened(data, tmp_path, None)) is None
    assert "found score.test_rows = (3,)" in (with_chosen_tests(opened(data, tmp_path, [3])) or "")


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("method", ["kfac", "cg"])
def test_chosen_rows_are_explained_as_in_a_run_of_all(data: Path, tmp_path: Path, method: str) -> None:
    dense = (
        *BASE,
        "score.write_scores=true",
        "curvature.damping=0.1",
        f"curvature.method={method}",
        "score.test_block_rows=20",
    )
    run_named(config(data, *dense, task=PERCEPTRON), tmp_path / "all")
    every = tables(tmp_path / "all")
    examples = every["test_examples"]
    wrong = examples.filter(pc.not_equal(examples["label"], examples["predicted_label"]))["test_index"].to_pylist()
    assert 0 < len(wrong) < TESTS
    out = shutil.copytree(tmp_path / "all", tmp_path / "some")
    for setting, rows in (("[3, 38, 21]", [3, 21, 38]), ("misclassified", wrong)):
        run_named(config(data, *dense, f"score.test_rows={setting}", task=PERCEPTRON), out)
        found = tables(out)
        for name in (*TABLES, *(("solutions",) if method == "cg" else ())):
            expected = every[name].filter(pc.is_in(every[name]["test_index"], pa.array(rows)))
            assert_alike(found[name], expected)
        assert found["train_examples"].equals(every["train_examples"])
        assert set(found["influence_sets"]["test_count"].to_pylist()) == {len(rows)}
        assert table_metadata(open_store(out / "tables"), "top_k")["test_count"] == str(len(rows))


def assert_alike(found: pa.Table, expected: pa.Table) -> None:
    """Compare tables row by row; numbers, which other blocks sum in another order, to 1e-4."""
    ours, theirs = found.to_pylist(), expected.to_pylist()
    assert len(ours) == len(theirs)
    for row, other in zip(sorted(ours, key=key), sorted(theirs, key=key), strict=True):
        for name, value in row.items():
            if isinstance(value, float):
                assert value == pytest.approx(other[name], rel=1e-3, abs=1e-6), name
            elif isinstance(value, list):
                assert value == pytest.approx(other[name], rel=1e-3, abs=1e-5), name
            elif name != "iterations":
                assert value == other[name], name


def key(row: dict[str, object]) -> tuple[str, ...]:
    return tuple(str(row.get(name)) for name in ("test_index", "method", "rank", "train_start"))
