"""Test inputs without a label are explained at what the model predicts, null in tables, and refused where needed."""

import re
from pathlib import Path

import pytest

from relatif.jobs import run as job
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.explaining.explainer import _require_targets as require_targets
from relatif.schemas.errors import ConfigurationError, DataError
from tests.support.images import LOGISTIC, write_images
from tests.support.runs import begun, config, run_named, tables
from tests.support.unlabelled import LABELLED, TEST_ROWS, TRAIN_ROWS, write_unlabelled

SHORT = ("data.shard_rows=20", "score.top_k=5", "train.tolerance=1e-3", "leave_one_out.test_count=2")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unlabelled(tmp_path_factory.mktemp("unlabelled"))


@pytest.mark.usefixtures("local_ray")
def test_scores_are_those_of_the_same_inputs_with_labels(data: Path, tmp_path: Path) -> None:
    labelled = write_images(tmp_path / "data", train=TRAIN_ROWS, test=TEST_ROWS, rows_per_group=20)
    run_named(config(data, *SHORT), tmp_path / "without", "train", "factors", "score", "statistics", "leave_one_out")
    run_named(config(data, *SHORT), tmp_path / "without", "evaluate")
    run_named(config(labelled, *SHORT), tmp_path / "with", "train", "factors", "score", "statistics")
    found, expected = tables(tmp_path / "without"), tables(tmp_path / "with")

    labels = expected["test_examples"]["label"].to_pylist()
    assert found["test_examples"]["label"].to_pylist() == labels[:LABELLED] + [None] * (TEST_ROWS - LABELLED)
    for name in ("top_k", "train_examples", "influence_sets", "overlap"):
        assert found[name].equals(expected[name]), name
    rest = [name for name in expected["test_examples"].column_names if name != "label"]
    assert found["test_examples"].select(rest).equals(expected["test_examples"].select(rest))
    assert found["class_agreement"].num_rows
    assert set(found["leave_one_out"]["test_index"].to_pylist()) <= set(range(TEST_ROWS))


@pytest.mark.usefixtures("local_ray")
def test_the_accuracy_is_that_of_the_labelled_or_left_out(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, folder in (("some", data), ("none", write_unlabelled(tmp_path / "none", labelled=0))):
        sets = [f"--set={each}" for each in (f"task={LOGISTIC}", f"data.source={folder}", *SHORT)]
        (tmp_path / "run.toml").write_text("")
        assert job.main(["--config", str(tmp_path / "run.toml"), "--out", str(tmp_path / f"run_{name}"), *sets]) == 0
        accuracy = re.search(r"accuracy\D*([\d.]+)%", capsys.readouterr().out)
        assert (accuracy is None) is (name == "none")
        tests = tables(tmp_path / f"run_{name}")["test_examples"].to_pylist()
        right = [row["label"] == row["predicted_label"] for row in tests if row["label"] is not None]
        assert accuracy is None or float(accuracy[1]) == pytest.approx(100 * sum(right) / len(right), abs=0.05)


def test_the_data_s_label_can_not_be_explained_where_there_is_none(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"found 'true' and {TEST_ROWS - LABELLED} test input"):
        begun(config(data, *SHORT, "score.explained_label=true"), tmp_path)
    begun(config(data, *SHORT, "score.explained_label=2"), tmp_path)


def test_a_missing_label_that_is_explained_is_named_by_its_row(data: Path, tmp_path: Path) -> None:
    run = begun(config(data, *SHORT), tmp_path).run
    examples = run.source.examples(run.task, run.test_shards[0])
    with pytest.raises(DataError, match=f"a label to explain, found none in row {LABELLED} of test"):
        require_targets(Categorical(4), examples, "true", "test")
