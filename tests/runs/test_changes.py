"""Other test rows and score settings are taken into a finished run in place; whatever stands before stays as it is."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.stages import score as score_module
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ChangedRunError, ConfigurationError, DataError
from tests.reference.problems import images
from tests.support.images import CLASSES, SIDE, subject, write_images
from tests.support.runs import begun, config, dense, file_bytes, run_named, tables
from tests.support.settings import CHANGES, RENEWING

pytestmark = pytest.mark.usefixtures("local_ray")

BASE = ("data.shard_rows=50", "score.top_k=5", "score.unit_rows=100", "train.tolerance=1e-3", "score.write_scores=true")
KEPT = ("checkpoint/**/*", "factors/**/*")
TRAINING = 100


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=12)


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training part beside other test inputs."""
    made = images(0, train=TRAINING, test=12, side=SIDE, classes=CLASSES, wrong=TRAINING // 50)
    new = images(7, train=TRAINING, test=9, side=SIDE, classes=CLASSES, wrong=0)
    splits = {"train": (made.train_images, made.train_labels), "test": (new.test_images, new.test_labels)}
    folder = tmp_path_factory.mktemp("other")
    write_dataset(open_store(folder), subject((SIDE, SIDE), CLASSES), splits, rows_per_group=50, rows_per_file=400)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_named(config(data, *BASE), out)
    run_named(config(data, *BASE), out, "evaluate")
    return out


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.mark.parametrize("name", sorted(RENEWING - {"score.write_scores"}))
def test_a_setting_of_the_score_stage_is_taken_in_and_told(run: Path, data: Path, name: str, capsys) -> None:
    value = CHANGES["score"][name][0].replace("30", "9")
    before = {pattern: file_bytes(run, pattern) for pattern in KEPT}
    proofs = begun(config(data, *BASE, f"{name}={value}"), run)
    (line,) = proofs.taken["score"]
    assert line.startswith(f"{name}: was ")
    assert f"{line}: taken into {run} in place, from stage score on; train and factors stay" in capsys.readouterr().err
    assert {pattern: file_bytes(run, pattern) for pattern in KEPT} == before
    assert not {"influence_sets", "overlap", "class_agreement"} & set(tables_there(run)), "made from the old scores"


def test_other_test_rows_train_nothing_and_give_the_tables_of_a_fresh_run(
    run: Path, data: Path, other: Path, tmp_path: Path, capsys
) -> None:
    before = {pattern: file_bytes(run, pattern) for pattern in KEPT}
    run_named(config(other, *BASE), run)
    log = capsys.readouterr().err
    assert "(data fingerprint of test): was " in log
    assert "train: was finished earlier" in log
    assert "factors: was finished earlier" in log
    assert {pattern: file_bytes(run, pattern) for pattern in KEPT} == before

    run_named(config(other, *BASE), tmp_path / "fresh")
    fresh = tables(tmp_path / "fresh")
    assert {name: table for name, table in tables(run).items() if table.num_rows} == fresh
    assert fresh["test_examples"].num_rows == 9
    assert verify_run(str(run)).faults == ()
    # And back again, as nothing that the training reads has changed.
    run_named(config(data, *BASE), run, "score")
    assert tables(run)["test_examples"].num_rows == 12


def test_fewer_scores_leave_no_part_of_the_old_ones(run: Path, data: Path) -> None:
    run_named(config(data, *BASE, "score.write_scores=false", "score.test_limit=3"), run)
    assert "scores" not in tables_there(run)
    assert tables(run)["test_examples"].num_rows == 3
    assert verify_run(str(run)).faults == ()


def test_another_part_is_scored_with_its_own_denominators(run: Path, data: Path) -> None:
    """Test inputs against themselves, at their own labels: influence is symmetric, and each explains itself best."""
    run_named(config(data, *BASE, "data.scored=test", "score.explained_label=true"), run)
    found = tables(run)
    assert found["train_examples"].num_rows == found["test_examples"].num_rows == 12
    for column in ("self_influence", "loss", "label"):
        assert found["train_examples"][column].to_pylist() == found["test_examples"][column].to_pylist()
    scores = dense(found["scores"], 12, 12)
    np.testing.assert_allclose(scores, scores.T, rtol=1e-4, atol=1e-6 * np.abs(scores).max())
    np.testing.assert_allclose(scores.diagonal(), found["train_examples"]["self_influence"].to_numpy(), rtol=1e-4)
    best = [row for row in found["top_k"].to_pylist() if (row["method"], row["rank"]) == ("l_relatif", 1)]
    assert [row["train_index"] for row in best] == [row["test_index"] for row in best]
    assert table_metadata(open_store(run / "tables"), "train_examples")["scored_part"] == "test"
    with pytest.raises(ConfigurationError, match=r"expected scores of the training set.* found data\.scored = 'test'"):
        run_named(config(data, *BASE, "data.scored=test", "score.explained_label=true"), run, "leave_one_out")


def test_a_part_that_is_not_there_is_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a part 'candidates' in data set small images, found"):
        begun(config(data, *BASE, "data.scored=candidates"), tmp_path / "run")


def test_a_crash_between_leaves_no_mixture(
    run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(score_module, "_join", crash)
    with pytest.raises(KeyboardInterrupt):
        run_named(config(data, *BASE, "score.test_limit=3"), run)
    monkeypatch.undo()
    assert not set(tables_there(run)) - {"scores"}, "old tables are gone before the first new one is written"
    assert any("stage score is not finished" in fault for fault in verify_run(str(run)).faults)
    run_named(config(data, *BASE, "score.test_limit=3"), run)
    assert tables(run)["scores"].num_rows == 3 * 2
    assert verify_run(str(run)).faults == ()


def test_what_trains_is_refused_together_with_what_would_be_taken(run: Path, data: Path) -> None:
    before = file_bytes(run)
    with pytest.raises(
        ChangedRunError, match=r"(?s)train\.seed: was 0, is now 7.*score\.test_limit: was None, is now 3"
    ):
        begun(config(data, *BASE, "train.seed=7", "score.test_limit=3"), run)
    assert file_bytes(run) == before


@pytest.mark.parametrize("job", ["train", "statistics", "evaluate"])
def test_a_job_that_does_not_score_takes_nothing_in(run: Path, data: Path, job: str) -> None:
    with pytest.raises(ChangedRunError, match=r"score\.test_limit: was None, is now 3"):
        run_named(config(data, *BASE, "score.test_limit=3"), run, job)


def test_a_run_of_an_earlier_version_tells_other_data_by_its_whole_fingerprint(
    run: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = json.loads((run / run_directory.RUN_JSON).read_bytes())
    for added in ("parts",):
        record["data"].pop(added)
    record.pop("sha256", None)
    (run / run_directory.RUN_JSON).write_text(json.dumps({k: v for k, v in record.items() if k != "seal"}))
    with pytest.raises(ChangedRunError, match=r"\(data fingerprint\): was"):
        begun(config(other, *BASE), run)


def tables_there(run: Path) -> list[str]:
    return [folder.name for folder in (run / run_directory.TABLES).iterdir() if list(folder.glob("*.parquet"))]
