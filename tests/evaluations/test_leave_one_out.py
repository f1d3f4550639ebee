"""Leave-one-out as a stage: the table against independent retraining; resumed one by one; refused early."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from relatif.pipeline.evaluations import leave_one_out as stage
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, MissingStageError
from relatif.schemas.methods import PAPER_METHODS
from relatif.schemas.tables import LEAVE_ONE_OUT
from tests.reference import softmax, training
from tests.support.images import CLASSES, pixels, write_images
from tests.support.runs import config, run_named, stage_run, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS, CHOSEN = 200, 40, 6
DECAY = 0.1
BASE = (
    "data.shard_rows=50",
    "score.top_k=5",
    "train.tolerance=1e-4",
    f"train.weight_decay={DECAY}",
    f"curvature.damping={DECAY}",
    f"leave_one_out.test_count={CHOSEN}",
)
STAGE = ["leave_one_out"]
CLOSE = 1e-8
"""Losses and parameters of order 1: searches end with steps of 1e-9, at curvatures from 0.1 on."""

SECOND_ORDER = 0.15
"""Of the slope: influence is the first order in 1 / n, and one of 200 examples weighs enough for the second to show."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A finished run, with the exact curvature, without leave-one-out."""
    out = tmp_path_factory.mktemp("runs") / "scored"
    run_named(config(data, *BASE, "curvature.method=exact"), out)
    return out


@pytest.fixture(scope="module")
def finished(scored: Path, data: Path) -> Path:
    out = shutil.copytree(scored, scored.parent / "finished")
    run_named(config(data, *BASE, "curvature.method=exact"), out, *STAGE)
    return out


def table(out: Path) -> pa.Table:
    return tables(out)[LEAVE_ONE_OUT.name]


def retrainings(out: Path) -> dict[str, int]:
    """Names and times of the manifests of finished retrainings."""
    paths = (out / run_directory.LEAVE_ONE_OUT_WORK).glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in paths if path.stem.isdigit()}


def test_it_is_not_part_of_a_whole_run(scored: Path) -> None:
    assert "leave_one_out" not in [each.name for each in WHOLE_RUN]
    assert LEAVE_ONE_OUT.name not in tables(scored)


def test_the_table_is_the_contracts(finished: Path, scored: Path) -> None:
    found = table(finished)
    assert found.schema.equals(LEAVE_ONE_OUT.schema)
    assert [(field.name, str(field.type)) for field in found.schema] == [
        ("method", "string"),
        ("test_index", "int64"),
        ("train_index", "int64"),
        ("predicted_test_loss_change", "double"),
        ("corrected_test_loss_change", "double"),
        ("test_loss_change", "double"),
        ("parameter_change", "double"),
        ("train_loss_change", "double"),
    ]
    chosen = sorted(set(found["test_index"].to_pylist()))
    assert len(chosen) == CHOSEN
    pairs = list(zip(found["method"].to_pylist(), found["test_index"].to_pylist(), strict=True))
    assert pairs == [(method, test) for test in chosen for method in PAPER_METHODS]
    best = {
        (row["method"], row["test_index"]): row["train_index"]
        for row in tables(scored)["top_k"].to_pylist()
        if row["rank"] == 1
    }
    assert found["train_index"].to_pylist() == [best[pair] for pair in pairs]
    said = table_metadata(open_store(finished / "tables"), LEAVE_ONE_OUT.name)
    assert "epsilon = -1/n" in said["leave_one_out"]
    assert "helpful" in said["sign"]


def test_examples_that_harm_are_left_out_where_they_are_asked_for(scored: Path, data: Path) -> None:
    def methods(*settings: str) -> tuple[str, ...]:
        return stage.left_out_methods(open_run(config(data, *BASE, "curvature.method=exact", *settings), str(scored)))

    assert methods() == PAPER_METHODS
    assert methods("leave_one_out.methods=['negative_influence', 'influence']") == ("influence", "negative_influence")
    with pytest.raises(
        ConfigurationError, match=r"methods among score.methods = influence, found l_relatif; add it to"
    ):
        methods("score.methods=['influence']", "leave_one_out.methods=['influence', 'l_relatif']")


def test_every_figure_against_retraining_by_another_program(finished: Path, data: Path) -> None:
    """The optimum of Eq. 5's weights by the references' Newton, from zero and with a Hessian of its own each step."""
    inputs, labels = pixels(data, "train")
    test_inputs, _ = pixels(data, "test")
    explained = tables(finished)["test_examples"]["explained_label"].to_numpy()
    whole = training.optimum(inputs, labels, CLASSES, weight_decay=DECAY)
    for row in table(finished).to_pylist():
        weights = np.full(TRAINING, 1 / TRAINING)
        weights[row["train_index"]] = 0
        without = training.optimum(inputs, labels, CLASSES, weight_decay=DECAY, weights=weights)
        test = slice(row["test_index"], row["test_index"] + 1)
        before, after = (softmax.losses(block, test_inputs[test], explained[test])[0] for block in (whole, without))
        changes = softmax.losses(without, inputs, labels) - softmax.losses(whole, inputs, labels)
        assert row["test_loss_change"] == pytest.approx(after - before, abs=CLOSE)
        assert row["parameter_change"] == pytest.approx(np.linalg.norm(without - whole), abs=CLOSE)
        assert row["train_loss_change"] == pytest.approx(np.linalg.norm(changes), abs=CLOSE * TRAINING**0.5)


def test_predictions_are_influence_over_n(finished: Path) -> None:
    scores = {(row["test_index"], row["train_index"]): row["score"] for row in _influences(finished)}
    seen = 0
    for row in table(finished).to_pylist():
        pair = row["test_index"], row["train_index"]
        if pair in scores:
            assert row["predicted_test_loss_change"] == pytest.approx(scores[pair] / TRAINING, rel=1e-6)
            seen += 1
    assert seen >= CHOSEN, "plain influence's own pairs at least"


def test_predictions_correlate_with_retraining_and_have_its_size_and_sign(finished: Path) -> None:
    found = table(finished)
    predicted, actual = (found[name].to_numpy() for name in ("predicted_test_loss_change", "test_loss_change"))
    assert np.corrcoef(predicted, actual)[0, 1] >= 0.99
    assert predicted @ actual / (predicted @ predicted) == pytest.approx(1, abs=SECOND_ORDER)
    of_influence = found.filter(pa.compute.equal(found["method"], "influence"))
    assert min(of_influence["test_loss_change"].to_pylist()) > 0, "helpful: without it the loss is higher"


def test_corrected_changes_are_closer_to_retraining(finished: Path) -> None:
    """What is left is of the third order: the step is one Newton step, and the others' curvature changes with it."""
    found = table(finished)
    names = ("predicted_test_loss_change", "corrected_test_loss_change", "test_loss_change")
    predicted, corrected, actual = (found[name].to_numpy() for name in names)
    apart, less = np.abs(predicted - actual), np.abs(corrected - actual)
    assert (less < apart / 2).all()
    assert np.median(less) < np.median(apart) / 10
    assert corrected @ actual / (corrected @ corrected) == pytest.approx(1, abs=SECOND_ORDER / 5)
    assert np.corrcoef(corrected, actual)[0, 1] >= 0.999


def _influences(out: Path) -> list[dict[str, float]]:
    return [row for row in tables(out)["top_k"].to_pylist() if row["method"] == "influence"]


@pytest.mark.parametrize("cluster", ["cluster.workers=2", "cluster.threads_per_worker=2"])
def test_a_stopped_stage_goes_on_with_what_is_missing(
    finished: Path, scored: Path, data: Path, tmp_path: Path, cluster: str
) -> None:
    """As if killed: two retrainings are proven, of a third only the file is there; other workers do the rest."""
    out = shutil.copytree(finished, tmp_path / "run")
    shutil.rmtree(out / run_directory.table(LEAVE_ONE_OUT.name))
    (out / run_directory.stage_manifest("leave_one_out")).unlink()
    (out / run_directory.predictions_manifest("exact")).unlink()
    all_of_them = sorted(retrainings(out))
    kept, torn, *lost = all_of_them[:2], all_of_them[2], *all_of_them[3:]
    (out / run_directory.retraining_manifest(int(torn))).unlink()
    (out / run_directory.retraining_file(int(torn))).write_bytes(b"half")
    for name in lost:
        (out / run_directory.retraining_manifest(int(name))).unlink()
        (out / run_directory.retraining_file(int(name))).unlink()
    before = retrainings(out)
    assert sorted(before) == kept

    settings = ["cluster.threads_per_worker=1", cluster]
    run_named(config(data, *BASE, "curvature.method=exact", *settings), out, *STAGE)

    after = retrainings(out)
    assert sorted(after) == all_of_them
    assert {name: after[name] for name in kept} == before, "what was proven was not made again"
    assert table(out).equals(table(finished))


def test_a_finished_table_is_not_made_again(finished: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = retrainings(finished)
    run_named(config(data, *BASE, "curvature.method=exact"), finished, *STAGE)
    assert "leave_one_out: was finished earlier" in capsys.readouterr().err
    assert retrainings(finished) == before


def test_more_test_inputs_add_retrainings(finished: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished, tmp_path / "run")
    before = retrainings(out)
    more = f"leave_one_out.test_count={CHOSEN + 2}"
    run_named(config(data, *BASE, "curvature.method=exact", more), out, *STAGE)
    after = retrainings(out)
    assert {name: after[name] for name in before} == before
    measured = [
        {
            tuple(row.values())
            for row in table(folder).drop(["predicted_test_loss_change", "corrected_test_loss_change"]).to_pylist()
        }
        for folder in (finished, out)
    ]
    assert measured[0] < measured[1]
    assert table(out).num_rows == len(PAPER_METHODS) * (CHOSEN + 2)


@pytest.mark.parametrize("method", ["cg", "lissa"])
def test_numerators_that_are_solved_for_are_those_of_the_scores(data: Path, tmp_path: Path, method: str) -> None:
    own = (
        f"curvature.method={method}",
        "curvature.lissa_depth=200",
        "curvature.lissa_tolerance=0.99",
        "score.test_limit=10",
        "leave_one_out.test_count=3",
    )
    run_named(config(data, *BASE, *own), tmp_path, "train", "factors", "score", *STAGE)
    scores = {(row["test_index"], row["train_index"]): row["score"] for row in _influences(tmp_path)}
    found = {
        (row["test_index"], row["train_index"]): row["predicted_test_loss_change"] * TRAINING
        for row in table(tmp_path).to_pylist()
    }
    both = found.keys() & scores.keys()
    assert len(both) >= 3
    # Solved for in other company: conjugate gradients' last steps are rounded otherwise.
    np.testing.assert_allclose([found[pair] for pair in both], [scores[pair] for pair in both], rtol=1e-4)


def test_without_finished_scores_it_says_which_job_to_run(scored: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(scored, tmp_path / "run")
    (out / run_directory.stage_manifest("score")).unlink()
    with pytest.raises(MissingStageError, match=r"stage 'score' in .*; run relatif score with"):
        run_named(config(data, *BASE, "curvature.method=exact"), out, *STAGE)
    assert not (out / run_directory.LEAVE_ONE_OUT_WORK).exists()


def test_more_test_inputs_than_were_scored_are_refused(scored: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(scored, tmp_path / "run")
    many = f"leave_one_out.test_count={TESTS + 1}"
    with pytest.raises(ConfigurationError, match=f"at most the {TESTS} test inputs.*found {TESTS + 1}; lower it"):
        run_named(config(data, *BASE, "curvature.method=exact", many), out, *STAGE)


def test_the_only_training_example_can_not_be_left_out(scored: Path, data: Path) -> None:
    run = open_run(config(data, *BASE, "curvature.method=exact"), str(scored))
    alone = replace(run, config=config(data, *BASE, "data.train_limit=1", "score.top_k=1"))
    with pytest.raises(ConfigurationError, match="at least 2 training examples"):
        stage._pairs(replace(stage_run(run, "leave_one_out"), run=alone))
