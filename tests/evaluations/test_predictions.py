"""Leave-one-out's predictions by other curvatures: those of runs of their own; made once, whatever is asked later."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from relatif.pipeline.curvature import exact
from relatif.pipeline.evaluations.predictions import asked_curvatures, factors_run, with_method
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.tables import LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS
from tests.support.images import write_images
from tests.support.runs import config, dense, file_bytes, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING, TESTS, CHOSEN = 100, 20, 3
DECAY = 0.1
BASE = (
    "data.shard_rows=50",
    "score.top_k=5",
    "train.tolerance=1e-4",
    f"train.weight_decay={DECAY}",
    f"curvature.damping={DECAY}",
    f"leave_one_out.test_count={CHOSEN}",
)
EXACT = "curvature.method=exact"
FIRST = "leave_one_out.curvatures=['kfac']"
ALL = "leave_one_out.curvatures=['kfac', 'identity', 'exact', 'ekfac', 'cg', 'kfac']"
ASKED = ["exact", "kfac", "identity", "ekfac", "cg"]
"""The run's own first, each once."""

STAGE = ["leave_one_out"]

CLOSE = {"kfac": 1e-6, "identity": 1e-6, "ekfac": 1e-6, "cg": 1e-4}
"""Of the largest: scores are float32; what is solved for in other company is rounded otherwise."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS)


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A run with the exact curvature, scored."""
    out = tmp_path_factory.mktemp("runs") / "scored"
    run_named(config(data, *BASE, EXACT), out, "train", "factors", "score")
    return out


@pytest.fixture(scope="module")
def first(scored: Path, data: Path) -> Path:
    """Examples left out, predicted by K-FAC too."""
    out = shutil.copytree(scored, scored.parent / "first")
    run_named(config(data, *BASE, EXACT, FIRST), out, *STAGE)
    return out


@pytest.fixture(scope="module")
def finished(first: Path, data: Path) -> Path:
    """The same run, asked for all curvatures later."""
    out = shutil.copytree(first, first.parent / "finished")
    run_named(config(data, *BASE, EXACT, ALL), out, *STAGE)
    return out


def predictions(out: Path, method: str | None = None) -> pa.Table:
    """The table, or a curvature's rows of it."""
    table = tables(out)[LEAVE_ONE_OUT_PREDICTIONS.name]
    return table if method is None else table.filter(pc.equal(table["curvature"], method))


def proofs(out: Path, pattern: str = "work/[lrc]*/**/*.json") -> dict[str, int]:
    """Times of the manifests of retrainings, predictions and other curvatures, by path."""
    return {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.glob(pattern)}


def pairs(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(table["test_index"].to_pylist(), table["train_index"].to_pylist(), strict=True))


def test_every_curvature_has_a_row_for_each_distinct_pair(finished: Path) -> None:
    table = predictions(finished)
    assert table.schema.equals(LEAVE_ONE_OUT_PREDICTIONS.schema)
    distinct = sorted(set(pairs(tables(finished)[LEAVE_ONE_OUT.name])))
    assert table["curvature"].to_pylist() == [method for method in ASKED for _ in distinct]
    assert pairs(table) == distinct * len(ASKED)
    assert set(zip(table["curvature"].to_pylist(), table["damping"].to_pylist(), strict=True)) == {
        (method, 1.0 if method == "identity" else DECAY) for method in ASKED
    }
    said = table_metadata(open_store(finished / "tables"), LEAVE_ONE_OUT_PREDICTIONS.name)
    assert said["curvature"] == "; ".join(ASKED)
    assert said["damping"] == "0.1; 0.1; 1.0; 0.1; 0.1"
    assert "epsilon = -1/n" in said["leave_one_out"]


def test_the_runs_own_rows_are_those_of_leave_one_out(finished: Path, first: Path) -> None:
    table, own = tables(finished)[LEAVE_ONE_OUT.name], predictions(finished, "exact")
    columns = ["test_index", "train_index", "predicted_test_loss_change", "test_loss_change"]
    assert {tuple(row.values()) for row in own.select(columns).to_pylist()} == {
        tuple(row.values()) for row in table.select(columns).to_pylist()
    }
    actual = own["test_loss_change"].to_pylist()
    assert all(predictions(finished, method)["test_loss_change"].to_pylist() == actual for method in ASKED)
    assert table.equals(tables(first)[LEAVE_ONE_OUT.name]), "whatever else predicts"
    said = table_metadata(open_store(finished / "tables"), LEAVE_ONE_OUT.name)
    assert (said["curvature"], said["damping"]) == ("exact", repr(DECAY))


@pytest.mark.parametrize("method", CLOSE)
def test_predictions_are_those_of_a_run_with_that_curvature(
    finished: Path, scored: Path, data: Path, tmp_path: Path, method: str
) -> None:
    shutil.copytree(scored / "checkpoint", tmp_path / "checkpoint")
    own = f"curvature.method={method}", "score.write_scores=true"
    run_named(config(data, *BASE, *own), tmp_path, "factors", "score")
    influences = dense(tables(tmp_path)["scores"], TESTS, TRAINING).astype(np.float64)
    table = predictions(finished, method)
    expected = np.array([influences[pair] for pair in pairs(table)]) / TRAINING
    found = table["predicted_test_loss_change"].to_numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=CLOSE[method] * np.abs(expected).max())
    exact = predictions(finished, "exact")["predicted_test_loss_change"].to_numpy()
    if method != "cg":
        assert np.abs(found - exact).max() > 100 * CLOSE[method] * np.abs(expected).max(), "another curvature"
        built = finished / run_directory.curvature(method)
        assert file_bytes(built / "factors", "*.safetensors") == file_bytes(tmp_path / "factors", "*.safetensors")
    else:
        np.testing.assert_allclose(found, exact, rtol=0, atol=CLOSE[method] * np.abs(exact).max())


def test_one_more_curvature_retrains_nothing_and_keeps_what_others_predicted(first: Path, finished: Path) -> None:
    before, after = proofs(first), proofs(finished)
    assert {name: after[name] for name in before} == before
    new = {"identity", "ekfac", "cg"}
    folders = {run_directory.curvature(method) for method in ("identity", "ekfac")}
    assert set(after) - set(before) == {run_directory.predictions_manifest(method) for method in new} | {
        f"{folder}/{name}"
        for folder in folders
        for name in (run_directory.CHECKPOINT_MANIFEST, run_directory.FACTORS_MANIFEST, run_directory.COVERAGE)
    }, "CG takes K-FAC's factors, which were there"


def test_a_finished_stage_is_not_made_again(finished: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = proofs(finished, "**/*")
    run_named(config(data, *BASE, EXACT, ALL), finished, *STAGE)
    assert "leave_one_out: was finished earlier" in capsys.readouterr().err
    after = proofs(finished, "**/*")
    assert {name for name in after if after[name] != before.get(name)} <= {
        "",
        ".",
        run_directory.WORK,
        run_directory.RUN_JSON,
    }


def test_what_is_lost_is_made_again_alone_and_equal_by_other_workers(
    finished: Path, data: Path, tmp_path: Path
) -> None:
    """As if killed: of K-FAC's predictions half a file, of EK-FAC nothing, of CG only the factors are left."""
    out = shutil.copytree(finished, tmp_path / "run")
    (out / run_directory.stage_manifest("leave_one_out")).unlink()
    shutil.rmtree(out / run_directory.table(LEAVE_ONE_OUT_PREDICTIONS.name))
    (out / run_directory.predictions_file("kfac")).write_bytes(b"half")
    shutil.rmtree(out / run_directory.curvature("ekfac"))
    for method in ("ekfac", "cg"):
        (out / run_directory.predictions_manifest(method)).unlink()
    before = proofs(out)

    others = "cluster.threads_per_worker=2", "cluster.shards_per_task=1"
    run_named(config(data, *BASE, EXACT, ALL, *others), out, *STAGE)

    after = proofs(out)
    assert set(after) == set(proofs(finished))
    assert {name for name in before if after[name] != before[name]} == {run_directory.predictions_manifest("kfac")}
    assert predictions(out).equals(predictions(finished))


def test_without_other_curvatures_the_table_holds_the_runs_own(first: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(first, tmp_path / "run")
    run_named(config(data, *BASE, EXACT), out, *STAGE)
    assert predictions(out).equals(predictions(first, "exact").combine_chunks())


def test_a_hessian_becomes_the_fisher_of_other_methods(scored: Path, data: Path) -> None:
    own = "curvature.denominators=exact", "leave_one_out.curvatures=['cg', 'kfac', 'exact']"
    run = open_run(config(data, *BASE, EXACT), str(scored))
    hessian = replace(run, config=config(data, *BASE, EXACT, "curvature.exact_matrix=hessian", *own))
    asked = asked_curvatures(hessian)
    assert [(each.method, each.exact_matrix) for each in asked] == [
        ("exact", "hessian"),
        ("cg", "fisher"),
        ("kfac", "fisher"),
    ]
    changed = {"method", "exact_matrix"}
    assert all(each.model_dump(exclude=changed) == asked[0].model_dump(exclude=changed) for each in asked)
    built = [factors_run(hessian, each) for each in asked]
    assert built[0] == hessian
    assert [each.store for each in built[1:]] == [
        run.store.child(f"work/curvatures/{name}") for name in ("exact", "kfac")
    ]
    assert built[1].config.curvature.exact_matrix == "fisher", "CG's preconditioner is no Hessian"


def test_factors_that_the_run_has_are_not_built_again(scored: Path, data: Path) -> None:
    run = open_run(config(data, *BASE, EXACT), str(scored))
    for own, other in (("kfac", "cg"), ("cg", "kfac"), ("lissa", "cg")):
        started = replace(run, config=config(data, *BASE, f"curvature.method={own}"))
        assert factors_run(started, with_method(started.config.curvature, other)) == started
    kept = CurvatureConfig(method="exact", exact_matrix="hessian")
    assert with_method(kept, "exact") == kept


def test_an_exact_curvature_that_is_too_large_is_refused_first(
    scored: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exact, "LARGEST_PARAMETERS", 10)
    run = open_run(config(data, *BASE, EXACT), str(scored))
    kfac = replace(run, config=config(data, *BASE))
    assert [each.method for each in asked_curvatures(kfac)] == ["kfac"]
    with pytest.raises(ConfigurationError, match="at most 10 covered parameters for the exact curvature"):
        asked_curvatures(replace(run, config=config(data, *BASE, "leave_one_out.curvatures=['exact']")))
