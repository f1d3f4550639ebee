"""The stage evaluate on whole runs, against the run's own tables and the labels of the data."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.jobs import evaluate as job
from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.evaluations.evaluate import EVALUATIONS, left_out
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, MissingStageError
from relatif.schemas.methods import DEFAULT_METHODS
from tests.support.images import LOGISTIC, write_images
from tests.support.runs import MNIST_CONFIG, config, file_bytes, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS = 200, 40
BASE = ("data.shard_rows=50", "score.top_k=5", "train.tolerance=1e-3", "curvature.damping=0.5", "score.unit_rows=100")
CHANGED = (*BASE, "data.merge_classes=2", "data.flip_share=0.15", "data.flip_seed=3")
WITHOUT_TRAINING = tuple(name for name, evaluation in EVALUATIONS.items() if not evaluation.trains)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS)


def labels(data: Path, split: str) -> np.ndarray:
    return pq.read_table(data / split, columns=["label"])["label"].to_numpy()


@pytest.fixture(scope="module")
def changed(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A run on merged and flipped labels, scored and evaluated."""
    out = tmp_path_factory.mktemp("runs") / "changed"
    run_named(config(data, *CHANGED), out, "train", "factors", "score", "evaluate")
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A run on the data's own labels, scored."""
    out = tmp_path_factory.mktemp("runs") / "plain"
    run_named(config(data, *BASE), out, "train", "factors", "score")
    return out


def test_labels_are_merged_and_flipped_in_every_table_and_the_model_learned_them(changed: Path, data: Path) -> None:
    written = tables(changed)
    merged, seen = labels(data, "train") // 2, written["train_examples"]["label"].to_numpy()
    flipped = np.flatnonzero(merged != seen)
    assert 10 < len(flipped) < 60
    assert written["test_examples"]["label"].to_numpy().tolist() == (labels(data, "test") // 2).tolist()
    assert set(written["train_examples"]["predicted_label"].to_pylist()) == {0, 1}
    right = np.array(written["train_examples"]["predicted_label"].to_pylist()) == merged
    assert right.mean() > 0.7, "the flips are a minority, so most predictions are the data's"
    assert table_metadata(open_store(changed / "tables"), "class_agreement")["labels"] == (
        "label // 2 of the data's; 0.15 of the training set's flipped, seed 3"
    )


def test_agreement_and_detection_are_those_of_the_runs_tables_and_the_data(changed: Path, data: Path) -> None:
    written = tables(changed)
    train, test = written["train_examples"].to_pylist(), written["test_examples"].to_pylist()
    first = {
        (row["method"], row["test_index"]): row["train_index"]
        for row in written["top_k"].to_pylist()
        if row["rank"] == 1
    }
    of_data = labels(data, "train"), labels(data, "test")
    right = [row["test_index"] for row in test if row["label"] == row["predicted_label"]]
    for row in written["class_agreement"].to_pylist():
        best = {index: first[row["method"], index] for index in range(TESTS)}
        if row["test"] == "identical_class":
            hits = [train[best[index]]["label"] == test[index]["predicted_label"] for index in range(TESTS)]
        else:
            hits = [of_data[0][best[index]] == of_data[1][index] for index in right]
        assert (row["test_count"], row["share"]) == (len(hits), sum(hits) / len(hits))
    assert len(written["class_agreement"]) == 2 * len(DEFAULT_METHODS)

    wrong = {row["train_index"] for row in train if row["label"] != of_data[0][row["train_index"]] // 2}
    found = written["mislabel_detection"].to_pylist()
    assert [row["right_share"] is not None for row in found] == [row["ranking"] == "label queue" for row in found]
    for row in (row for row in found if row["ranking"] != "label queue"):
        above, _, below = row["ranking"].partition(" / ")
        values = [each[above] / (each[below] if below else 1) for each in train]
        order = sorted(range(TRAINING), key=lambda place: -values[place])
        inspected = order[: round(row["inspected_share"] * TRAINING)]
        assert row["found_share"] == len(wrong & set(inspected)) / len(wrong)
    best = max(row["area"] for row in written["mislabel_detection"].to_pylist())
    assert best > 0.75, "made-up classes are easy to tell apart, so wrong labels stand out"


@pytest.mark.parametrize("settings", [("cluster.workers=2", "cluster.threads_per_worker=1"), ("score.unit_rows=50",)])
def test_shards_and_workers_change_no_table(
    changed: Path, data: Path, tmp_path: Path, settings: tuple[str, ...]
) -> None:
    stages = ["train", "factors", "score", "evaluate"]
    run_named(config(data, *CHANGED, *settings), tmp_path / "run", *stages)
    for name, table in tables(changed).items():
        assert tables(tmp_path / "run")[name].equals(table), name


def test_other_shards_see_the_same_labels_and_find_the_same_flips(changed: Path, data: Path, tmp_path: Path) -> None:
    other = (*CHANGED, "data.shard_rows=200")
    run_named(config(data, *other), tmp_path / "run", "train", "factors", "score", "evaluate")
    mine, whole = tables(tmp_path / "run"), tables(changed)
    assert mine["train_examples"]["label"].equals(whole["train_examples"]["label"])
    assert [row["test_count"] for row in mine["class_agreement"].to_pylist()][:4] == [TESTS] * 4
    assert mine["mislabel_detection"]["ranking"].equals(whole["mislabel_detection"]["ranking"])


def test_what_is_finished_is_not_made_again_and_what_is_lost_is(
    changed: Path, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = file_bytes(changed)
    run_named(config(data, *CHANGED), changed, "evaluate")
    assert capfd.readouterr().err.count("not computed again") == len(WITHOUT_TRAINING)
    (changed / run_directory.table_part("mislabel_detection", 0)).unlink()
    run_named(config(data, *CHANGED), changed, "evaluate")
    assert "class_agreement: was finished earlier" in capfd.readouterr().err
    after = file_bytes(changed)
    proof = run_directory.stage_manifest("evaluate-mislabel_detection")
    # The record names each driver that had something to do.
    assert {name for name in before if before[name] != after[name]} <= {proof, run_directory.RUN_JSON}


def test_by_default_what_the_run_allows_is_evaluated(plain: Path, data: Path) -> None:
    run_named(config(data, *BASE), plain, "evaluate")
    assert "mislabel_detection" not in tables(plain)
    tests: list[str] = pa.compute.unique(tables(plain)["class_agreement"]["test"]).to_pylist()
    assert tests == ["identical_class"]
    assert not (plain / run_directory.MISLABEL_DETECTION).exists()
    reasons = left_out(open_run(config(data, *BASE), str(plain)))
    assert "found data.flip_share = 0" in reasons.pop("mislabel_detection")
    assert reasons == {}
    assert left_out(open_run(config(data, *BASE, "evaluate.what=['class_agreement']"), str(plain))) == {}


def test_evaluations_that_a_run_can_not_answer_are_refused(plain: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"flipped on purpose, found data.flip_share = 0; run all stages into"):
        run_named(config(data, *BASE, "evaluate.what=['mislabel_detection']"), plain, "evaluate")
    with pytest.raises(ConfigurationError, match=r"evaluate.what among class_agreement, .*found 'no_such'; use one"):
        run_named(config(data, *BASE, "evaluate.what=['no_such']"), plain, "evaluate")
    with pytest.raises(ConfigurationError, match=r"evaluate.what: "):
        config(data, *BASE, "evaluate.what=[]")
    with pytest.raises(MissingStageError, match=r"result of stage 'train'"):
        run_named(config(data, *BASE), tmp_path / "run", "evaluate")


@pytest.mark.parametrize("setting", ["data.merge_classes=4", "data.merge_classes=9"])
def test_one_class_is_too_few(data: Path, tmp_path: Path, setting: str) -> None:
    with pytest.raises(ConfigurationError, match=r"at least 2 classes with data.merge_classes"):
        run_named(config(data, *BASE, setting), tmp_path / "run", "train")


def test_a_class_that_merging_left_empty_is_not_explained(data: Path, tmp_path: Path) -> None:
    settings = (*BASE, "data.merge_classes=2", "score.explained_label=2")
    with pytest.raises(ConfigurationError, match=r"a class from 0 to 1, found 2"):
        run_named(config(data, *settings), tmp_path / "run", "train")


def test_the_job_prints_what_the_tables_hold(changed: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"task={LOGISTIC}", f"data.source={data}", *CHANGED]
    sets = [word for setting in settings for word in ("--set", setting)]
    assert job.main(["--config", str(MNIST_CONFIG), "--out", str(changed), *sets]) == 0
    printed = capsys.readouterr().out
    share = tables(changed)["class_agreement"].to_pylist()[0]["share"]
    assert f"{share:.2%}" in next(line for line in printed.splitlines() if line.startswith("IF "))
    areas = {row["ranking"]: row["area"] for row in tables(changed)["mislabel_detection"].to_pylist()}
    assert f"best by area: {max(areas, key=lambda name: areas[name])}" in printed
    assert f"figure: {changed}/report/mislabel_detection.png\n" in printed
    assert (changed / run_directory.MISLABEL_DETECTION).read_bytes().startswith(b"\x89PNG")
    assert job.main(["--config", str(MNIST_CONFIG), "--out", str(changed), *sets, "--set", "data.flip_seed=4"]) == 1
    assert "data.flip_seed: was 3, is now 4" in capsys.readouterr().err
    assert Labelling(2, 0.15, 3).text in table_metadata(open_store(changed / "tables"), "top_k")["labels"]
