"""The linear datamodeling score on whole runs, against models trained by another program; resumed piece by piece."""

import shutil
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
import torch

from relatif.jobs import evaluate as job
from relatif.pipeline.retraining.subsets import Subsets
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.storage.tensors import read_tensors
from relatif.pipeline.tasks.task import load_model
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.tables import LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE
from tests.reference import softmax, training
from tests.support.images import CLASSES, LOGISTIC, MINIBATCHES, minibatches, pixels, write_images
from tests.support.runs import MNIST_CONFIG, config, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS, CHOSEN, SUBSETS = 200, 30, 8, 12
DECAY = 0.05
BASE = (
    "data.shard_rows=50",
    "score.top_k=3",
    f"score.test_limit={TESTS}",
    "score.unit_rows=100",
    "train.tolerance=1e-4",
    f"train.weight_decay={DECAY}",
    "curvature.method=exact",
    f"curvature.damping={DECAY}",
    f"linear_datamodeling.test_count={CHOSEN}",
    f"linear_datamodeling.subset_count={SUBSETS}",
)
NAMED = (*BASE, "evaluate.what=['linear_datamodeling']")
CLOSE = 1e-7
"""Losses of order 1 at optima that searches reach to about 1e-8."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=40)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    out = tmp_path_factory.mktemp("runs") / "scored"
    run_named(config(data, *BASE), out, "train", "factors", "score")
    return out


@pytest.fixture(scope="module")
def evaluated(scored: Path, data: Path) -> Path:
    out = shutil.copytree(scored, scored.parent / "evaluated")
    run_named(config(data, *NAMED), out, "evaluate")
    return out


def made(out: Path) -> dict[str, int]:
    """Names and times of the proofs of models and sums."""
    paths = (out / run_directory.LINEAR_DATAMODELING_WORK).glob("*.json")
    return {path.stem: path.stat().st_mtime_ns for path in paths}


def test_losses_are_those_of_models_that_another_program_trained_on_the_subsets(evaluated: Path, data: Path) -> None:
    (inputs, labels), (test_inputs, _) = pixels(data, "train"), pixels(data, "test")
    written = tables(evaluated)
    explained = written["test_examples"]["explained_label"].to_numpy()
    mask = Subsets(TRAINING, 0.5, 0).mask(SUBSETS).numpy()
    models = [training.optimum(inputs[some], labels[some], CLASSES, weight_decay=DECAY) for some in mask.T]
    rows = written[LINEAR_DATAMODELING.name].to_pylist()
    assert len(rows) == 3 * CHOSEN * SUBSETS
    for row in rows:
        test = slice(row["test_index"], row["test_index"] + 1)
        loss = softmax.losses(models[row["subset"]], test_inputs[test], explained[test])[0]
        assert row["loss"] == pytest.approx(loss, abs=CLOSE)


def test_scores_are_mean_rank_correlations_of_the_tables_own_rows(evaluated: Path) -> None:
    written = tables(evaluated)
    rows = written[LINEAR_DATAMODELING.name].to_pylist()
    for summary in written[LINEAR_DATAMODELING_SCORE.name].to_pylist():
        found = []
        for test in sorted({row["test_index"] for row in rows}):
            some = [row for row in rows if row["test_index"] == test and row["method"] == summary["method"]]
            assert [row["subset"] for row in some] == list(range(SUBSETS))
            order = [np.argsort(np.argsort([row[name] for row in some])) for name in ("score_sum", "loss")]
            found.append(-np.corrcoef(*order)[0, 1])
        assert (summary["test_count"], summary["subset_count"]) == (CHOSEN, SUBSETS) == (len(found), SUBSETS)
        assert summary["score"] == pytest.approx(np.mean(found))
        assert summary["low"] < summary["score"] < summary["high"]


def test_influence_with_damping_equal_to_weight_decay_orders_the_losses(evaluated: Path) -> None:
    scores = {row["method"]: row["score"] for row in tables(evaluated)[LINEAR_DATAMODELING_SCORE.name].to_pylist()}
    assert set(scores) == {"influence", "theta_relatif", "l_relatif"}
    assert scores["influence"] > 0.9
    assert scores["influence"] > max(scores["theta_relatif"], scores["l_relatif"])


def test_tables_say_what_the_subsets_were(evaluated: Path) -> None:
    said = table_metadata(open_store(evaluated / "tables"), LINEAR_DATAMODELING.name)
    assert said["subsets"] == "100 of 200 training examples each, seed 0"
    assert "the same weight decay" in said["loss"]


def test_it_is_made_only_where_it_is_named(scored: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(scored, tmp_path / "run")
    run_named(config(data, *BASE), out, "evaluate")
    assert LINEAR_DATAMODELING_SCORE.name not in tables(out)
    assert "class_agreement" in tables(out)


@pytest.mark.parametrize("cluster", ["cluster.workers=2", "cluster.threads_per_worker=2"])
def test_a_stopped_evaluation_goes_on_with_what_is_missing(
    evaluated: Path, data: Path, tmp_path: Path, cluster: str
) -> None:
    """As if killed: some models and sums are proven, of one only half a file is there; other workers do the rest."""
    out = shutil.copytree(evaluated, tmp_path / "run")
    for spec in (LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE):
        shutil.rmtree(out / run_directory.table(spec.name))
    (out / run_directory.stage_manifest("evaluate-linear_datamodeling")).unlink()
    before = made(out)
    lost = {f"subset-{number:05d}-0" for number in range(3, SUBSETS)} | {"scores-00001"}
    assert lost < set(before)
    for name in lost:
        (out / run_directory.LINEAR_DATAMODELING_WORK / f"{name}.json").unlink()
        (out / run_directory.LINEAR_DATAMODELING_WORK / f"{name}.safetensors").unlink()
    (out / run_directory.subset_model(3, 0)).write_bytes(b"half")

    run_named(config(data, *NAMED, "cluster.threads_per_worker=1", cluster), out, "evaluate")

    after = made(out)
    assert {name for name in before if after[name] != before[name]} == lost, "what was proven was not made again"
    for spec in (LINEAR_DATAMODELING, LINEAR_DATAMODELING_SCORE):
        assert tables(out)[spec.name].equals(tables(evaluated)[spec.name])
    assert not (out / run_directory.PREPARED).exists()


def test_more_test_inputs_and_subsets_train_only_what_is_new(evaluated: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(evaluated, tmp_path / "run")
    before = made(out)
    more = ("linear_datamodeling.test_count=10", f"linear_datamodeling.subset_count={SUBSETS + 1}")
    run_named(config(data, *NAMED, *more), out, "evaluate")
    after = made(out)
    models = {name for name in before if name.startswith("subset-")}
    assert {name: after[name] for name in models} == {name: before[name] for name in models}
    assert after.keys() - before.keys() == {f"subset-{SUBSETS:05d}-0"}
    found = tables(out)[LINEAR_DATAMODELING.name]
    assert found.num_rows == 3 * 10 * (SUBSETS + 1)
    of_both = pc.and_(
        pc.is_in(found["test_index"], tables(evaluated)[LINEAR_DATAMODELING.name]["test_index"].unique()),
        pc.less(found["subset"], SUBSETS),
    )
    assert (
        found.filter(of_both)
        .drop(["score_sum"])
        .equals(tables(evaluated)[LINEAR_DATAMODELING.name].drop(["score_sum"]))
    )


def test_models_from_scratch_differ_by_seed_and_their_losses_are_averaged(data: Path, tmp_path: Path) -> None:
    own = (
        "data.shard_rows=100",
        "score.test_limit=6",
        "score.top_k=3",
        "train.epochs=2",
        "curvature.damping=0.1",
        "linear_datamodeling.subset_count=10",
        "linear_datamodeling.trainings=2",
        "linear_datamodeling.test_count=3",
        "evaluate.what=['linear_datamodeling']",
    )
    run_named(config(data, *own, task=MINIBATCHES), tmp_path / "run", "train", "factors", "score", "evaluate")
    written, store = tables(tmp_path / "run"), open_store(tmp_path / "run")
    explained = written["test_examples"]["explained_label"].to_pylist()
    inputs = torch.from_numpy(pixels(data, "test")[0])
    states = [read_tensors(store, run_directory.subset_model(3, repeat)) for repeat in (0, 1)]
    models = [load_model(minibatches(), state) for state in states]
    rows = [row for row in written[LINEAR_DATAMODELING.name].to_pylist() if row["subset"] == 3]
    assert len(rows) == 3 * 3
    for row in rows:
        test = row["test_index"]
        losses = [-model(inputs[test][None]).log_softmax(dim=1)[0, explained[test]].item() for model in models]
        assert abs(losses[0] - losses[1]) > 1e-3
        assert row["loss"] == pytest.approx(np.mean(losses), rel=1e-6)
    assert (tmp_path / "run" / run_directory.PREPARED).exists(), "nothing is in it, so it is not made again"


def test_the_job_prints_the_scores_and_draws_them(
    evaluated: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [part for setting in (f"task={LOGISTIC}", f"data.source={data}", *NAMED) for part in ("--set", setting)]
    assert job.main(["--config", str(MNIST_CONFIG), "--out", str(evaluated), *settings]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"linear_datamodeling: exact, damping {DECAY}; {SUBSETS} subsets, 1 model(s) of each\n")
    assert f"figure: {evaluated}/report/linear_datamodeling.png\n" in printed
    assert (evaluated / run_directory.LINEAR_DATAMODELING).read_bytes().startswith(b"\x89PNG")


def test_what_can_not_be_asked_is_refused(scored: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(scored, tmp_path / "run")
    many = f"linear_datamodeling.test_count={TESTS + 1}"
    with pytest.raises(ConfigurationError, match=f"at most the {TESTS} test inputs.*found {TESTS + 1}; lower it"):
        run_named(config(data, *NAMED, many), out, "evaluate")
    with pytest.raises(ConfigurationError, match=r"some but not all of 200 training examples, found 0\.001"):
        run_named(config(data, *NAMED, "linear_datamodeling.subset_share=0.001"), out, "evaluate")
    with pytest.raises(ConfigurationError, match=r"whose scores add up .influence, .*found score.methods = nearest_n"):
        run_named(config(data, *NAMED, "score.methods=['nearest_neighbour']"), out, "evaluate")
    assert not (out / run_directory.LINEAR_DATAMODELING_WORK).exists()
