"""Nothing is mixed: foreign parts of tables are refused, and another checkpoint below what was made from the old."""

import shutil
from pathlib import Path

import pytest

from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.durable import prove
from relatif.pipeline.runs.whole import kept_outputs, require_kept, require_only
from relatif.pipeline.stages.train import TRAIN, TrainUnit
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ChangedRunError, DataError, StorageError
from relatif.schemas.manifest import Manifest
from tests.support.images import write_images
from tests.support.proofs import prove_files
from tests.support.reading import WEIGHTS
from tests.support.runs import begun, config, file_bytes, run_named

FIRST = ("train", run_directory.CHECKPOINT_MANIFEST, "test")
BASE = ("data.shard_rows=50", "score.top_k=5", "train.tolerance=1e-3", "curvature.damping=0.5")


def test_a_part_that_no_proof_names_is_refused_by_name(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    part = store.publish_bytes(run_directory.table_part("top_k", 0), b"1")
    store.publish_bytes("tables/top_k/notes.txt", b"no reader takes it")
    require_only(store, "work/score.json", [part])
    store.publish_bytes(run_directory.table_part("top_k", 1), b"2")
    with pytest.raises(
        StorageError, match=r"only the tables' parts that .*score\.json names, found .*part-00001\.parquet"
    ):
        require_only(store, "work/score.json", [part])


def checkpoint(store: Store, later: bool) -> str:
    """Leave a checkpoint, and a stage that was made from it where asked; return the checkpoint's hash."""
    receipt = store.publish_bytes(run_directory.CHECKPOINT, b"model")
    prove_files(store, run_directory.CHECKPOINT_MANIFEST, [receipt])
    if later:
        made_from = {"train": (receipt.sha256,)}
        proof = Manifest(work="factors", digest="", outputs=(), seconds=0.0, made_from=made_from)
        publish_manifest(store, run_directory.FACTORS_MANIFEST, proof)
    return receipt.sha256


def test_a_checkpoint_is_kept_once_others_were_made_from_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert kept_outputs(store, *FIRST) == {}
    checkpoint(store, later=False)
    assert kept_outputs(store, *FIRST) == {}
    kept = {run_directory.CHECKPOINT: checkpoint(store, later=True)}
    assert kept_outputs(store, *FIRST) == kept
    store.publish_bytes(run_directory.CHECKPOINT_MANIFEST, b"damaged")
    assert kept_outputs(store, *FIRST) == kept, "as what was made from it tells"
    require_kept(kept, run_directory.CHECKPOINT, kept[run_directory.CHECKPOINT])
    require_kept({}, run_directory.CHECKPOINT, "another")
    with pytest.raises(
        ChangedRunError, match="as later results were made from it, found another; put a copy of the old"
    ):
        require_kept(kept, run_directory.CHECKPOINT, "another")


def test_a_checkpoint_for_other_settings_is_refused_once_others_were_made_from_it(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    checkpoint(store, later=True)
    with pytest.raises(ChangedRunError, match="found another, from which 'factors' was made; choose another --out"):
        kept_outputs(store, "train", run_directory.CHECKPOINT_MANIFEST, "other settings")


@pytest.mark.usefixtures("local_ray")
def test_a_lost_record_does_not_let_other_settings_replace_the_checkpoint(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data", train=200)
    out = tmp_path / "run"
    run_named(config(data, *BASE), out, "train", "factors")
    (out / run_directory.RUN_JSON).unlink()
    before = file_bytes(out)
    with pytest.raises(ChangedRunError, match="nothing was touched"):
        begun(config(data, *BASE, "train.seed=1"), out)
    assert file_bytes(out) == before
    begun(config(data, *BASE), out)


def test_what_training_reads_is_part_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, weights = tmp_path / "run", tmp_path / "weights.txt"
    started = config(write_images(tmp_path / "data", train=200), *BASE, task="tests.support.reading:reading")
    monkeypatch.setenv(WEIGHTS, str(weights))
    with pytest.raises(DataError, match=r"expected the file .*weights\.txt that the task's training reads"):
        begun(started, out)
    weights.write_text("0.5")
    proofs = begun(started, out)
    run = proofs.run
    unit = TrainUnit(run.source, run.train_shards, run.test_shards, run.config, Worker(1), {}, run.task_files)
    prove(run.store, proofs.unit(TRAIN), lambda: unit("train"))
    assert begun(started, out).find(TRAIN) is not None
    before = file_bytes(out)

    weights.write_text("0.25")
    with pytest.raises(ChangedRunError, match=r"\(file .*weights\.txt\): was '\w{64}', is now '\w{64}'"):
        begun(started, out)
    with pytest.raises(DataError, match=r"found others for .*weights\.txt; give every machine the same files"):
        unit("train")
    assert file_bytes(out) == before
    # Where it lies decides nothing.
    weights.write_text("0.5")
    monkeypatch.setenv(WEIGHTS, str(shutil.move(weights, tmp_path / "elsewhere.txt")))
    assert begun(started, out).find(TRAIN) is not None
