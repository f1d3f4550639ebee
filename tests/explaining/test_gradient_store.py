"""Kept gradients: as durable as tables, refused where damaged or not the run's own, and as large as announced."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from relatif.pipeline.curvature.forms import DenseGradients, LayerGradients
from relatif.pipeline.curvature.sparse import SparseGradients
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.engine import load_engine
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.explaining.gradient_store import open_gradients, require_storable
from relatif.pipeline.runs.durable import prove
from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.stages.score import plan_score
from relatif.pipeline.storage.row_blocks import INDEX
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, RelatifError, StorageError
from tests.support.explained_runs import TRAINING, configured, finished
from tests.support.runs import run_named, stage_run
from tests.support.without_ray import without_ray

KEPT = "score.gradient_store=true"
FIRST = run_directory.gradients_file(0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """A finished run with its gradients."""
    return finished(folder, "logistic", KEPT, name="kept", stages=("train", "factors", "score", "statistics"))


@pytest.fixture
def out(made: Path, folder: Path) -> Path:
    """The same run, to be damaged: where it lies belongs to no result."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    return shutil.copytree(made, copy)


def explain(out: Path) -> FinishedRun:
    run = open_finished_run(out)
    engine = load_engine(run, Worker(2))
    assert engine.training.is_stored
    engine.best(engine.rows("test", [0]), ["influence", "nearest_neighbour"], k=3)
    return run


def test_a_whole_run_is_verified_and_explains(out: Path) -> None:
    assert verify_run(str(out)).faults == ()
    explain(out)


@pytest.mark.parametrize("name", [FIRST, FIRST + INDEX, run_directory.gradients_file(1)])
@pytest.mark.parametrize("how", ["flip", "cut", "lost"])
def test_damage_is_told_by_check_and_refused_by_explain(out: Path, name: str, how: str) -> None:
    file = out / name
    data = file.read_bytes()
    if how == "lost":
        file.unlink()
    else:
        middle = len(data) // 2
        file.write_bytes(data[:-1] if how == "cut" else data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
    faults = verify_run(str(out)).faults
    assert [fault for fault in faults if name in fault]
    with pytest.raises(StorageError, match=r"made it again, such as relatif run --config \.\.\. --out OUT"):
        explain(out)


def foreign(out: Path) -> None:
    """Put the gradients of another checkpoint's proof beside this run's factors."""
    path = out / run_directory.FACTORS_MANIFEST
    content = unsealed(path.read_bytes())
    content["outputs"][0]["sha256"] = "0" * 64
    path.write_bytes(sealed(content))


def by_hand(out: Path) -> None:
    """Write other rows, with an index that fits them."""
    path = out / (FIRST + INDEX)
    content = unsealed(path.read_bytes())
    content["blocks"][0]["sha256"] = "0" * 64
    path.write_bytes(sealed(content))


def of_another_stage(out: Path) -> None:
    """Let the proof of the score stage be another one's, whose files have the same contents."""
    path = out / run_directory.stage_manifest("score")
    content = unsealed(path.read_bytes())
    content["digest"] = "0" * 64
    path.write_bytes(sealed(content))


def of_another_type(out: Path) -> None:
    path = out / run_directory.RUN_JSON
    content = unsealed(path.read_bytes())
    content["configuration"]["score"]["gradient_store_dtype"] = "float32"
    path.write_bytes(sealed(content))


@pytest.mark.parametrize("change", [foreign, by_hand, of_another_stage, of_another_type])
def test_gradients_that_are_not_this_runs_are_refused(out: Path, change: Callable[[Path], None]) -> None:
    change(out)
    with pytest.raises(StorageError):
        open_gradients(open_finished_run(out))


def test_a_foreign_file_among_them_is_told(out: Path) -> None:
    (out / run_directory.GRADIENTS / "part-00009.bin").write_bytes(b"rows")
    assert [fault for fault in verify_run(str(out)).faults if "part-00009.bin is foreign" in fault]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_stopped_stage_goes_on_with_the_gradients_that_are_whole(folder: Path, damaged: bool) -> None:
    out = finished(folder, "logistic", KEPT, name=f"stopped {damaged}", stages=("train", "factors"))
    run = open_finished_run(out)
    with without_ray():
        plan = plan_score(stage_run(run, "score"))
        prove(run.store, plan.units[0], lambda: plan.scoring(Worker())(plan.units[0]))
    with pytest.raises(RelatifError):
        run.table("top_k")
    assert open_gradients(run) is None
    data, before = (out / FIRST).read_bytes(), (out / FIRST).stat().st_mtime_ns
    if damaged:
        (out / FIRST).write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
    with without_ray():
        run_named(configured(folder, "logistic", KEPT), out, "score")
    assert (out / FIRST).read_bytes() == data
    assert ((out / FIRST).stat().st_mtime_ns == before) is not damaged
    explain(out)


def test_a_run_that_keeps_none_any_more_has_none(folder: Path, out: Path) -> None:
    with without_ray():
        run_named(configured(folder, "logistic"), out, "score", "statistics")
    assert list((out / run_directory.GRADIENTS).glob("*")) == []
    assert verify_run(str(out)).faults == ()
    assert not load_engine(open_finished_run(out), Worker()).training.is_stored


def test_rows_are_those_of_the_data(made: Path) -> None:
    run = open_finished_run(made)
    store = open_gradients(run)
    assert store is not None
    rows = [0, 49, 50, 123, TRAINING - 1]
    inputs, targets = store.examples(rows)
    (shard,) = run.dataset.shards("train", rows=TRAINING)
    stored = run.source.stored(shard)
    assert isinstance(inputs, torch.Tensor)
    assert torch.equal(inputs, stored.inputs[rows])  # type: ignore[index]
    assert torch.equal(targets, stored.labels[rows])


def test_layers_that_are_kept_by_word_or_position_are_refused() -> None:
    words = SparseGradients(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, 3), 9)
    gradients: dict[str, LayerGradients] = {"head": DenseGradients(torch.zeros(1, 2, 2)), "words": words}
    with pytest.raises(ConfigurationError, match=r"score\.gradient_store = true, found words, which are kept by"):
        require_storable(gradients)


def test_the_record_of_a_run_names_the_setting(made: Path) -> None:
    score = json.loads((made / run_directory.RUN_JSON).read_text())["configuration"]["score"]
    assert (score["gradient_store"], score["gradient_store_dtype"]) == (True, "bfloat16")
