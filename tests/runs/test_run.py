"""A run continues only what was made with the same settings, data and code; a change is told, not worked around."""

import json
import shutil
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.evaluations.evaluate import EVALUATIONS
from relatif.pipeline.evaluations.leave_one_out import LEAVE_ONE_OUT_STAGE
from relatif.pipeline.runs import run as run_module
from relatif.pipeline.runs.code import TaskCode
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run, relabelled
from relatif.pipeline.stages.score import SCORE
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig, flatten
from relatif.schemas.errors import ChangedRunError, ConfigurationError, MissingStageError, StorageError
from tests.support.images import write_images
from tests.support.runs import begun, config, file_bytes, run_named
from tests.support.settings import ALWAYS_ACCEPTED, BY_CONTENT, CHANGES, NOT_ALONE, RENEWING

pytestmark = pytest.mark.usefixtures("local_ray")

BASE = ("data.shard_rows=50", "score.top_k=5", "score.unit_rows=100", "train.tolerance=1e-3")

NAMES = tuple(stage.name for stage in WHOLE_RUN)

ALL_CHANGES = [(stage, name) for stage, names in CHANGES.items() for name in names]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=200)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, data: Path) -> dict[str, Path]:
    """Runs that were stopped after each stage; ``unit`` after the first unit of score, ``begun`` before any work."""
    out = tmp_path_factory.mktemp("runs")
    folders = {name: out / name for name in ("begun", *NAMES, "unit")}
    begun(config(data, *BASE), folders["begun"])
    before = folders["begun"]
    for stage in NAMES:
        shutil.copytree(before, folders[stage])
        run_named(config(data, *BASE), folders[stage], stage)
        before = folders[stage]
    shutil.copytree(folders["factors"], folders["unit"])
    proof = folders["unit"] / run_directory.unit_manifest(0, 0)
    proof.parent.mkdir(parents=True)
    proof.write_text("{}")
    return folders


@pytest.fixture
def after(stopped: dict[str, Path], tmp_path: Path) -> "After":
    return After(stopped, tmp_path / "run")


class After:
    """Copies of runs that were stopped at some point."""

    def __init__(self, stopped: dict[str, Path], out: Path) -> None:
        self.stopped, self.out = stopped, out

    def __call__(self, point: str) -> str:
        shutil.copytree(self.stopped[point], self.out)
        return str(self.out)


def changed(data: Path, name: str, value: str) -> RunConfig:
    return config(data, *BASE, f"{name}={value}")


def test_every_setting_is_tried_here(data: Path) -> None:
    tried = {name for _, name in ALL_CHANGES} | set(ALWAYS_ACCEPTED) | BY_CONTENT | NOT_ALONE
    assert tried == set(flatten(config(data)))


@pytest.mark.parametrize(("stage", "name"), [each for each in ALL_CHANGES if each[1] not in RENEWING])
def test_a_changed_setting_is_refused_with_both_values_and_what_to_do(
    after: After, data: Path, stage: str, name: str
) -> None:
    out = after("statistics")
    before = file_bytes(after.out)
    value, old, new = CHANGES[stage][name]
    with pytest.raises(ChangedRunError) as caught:
        begun(changed(data, name, value), out)
    message = str(caught.value)
    assert f"\n  {name}: was {old}, is now {new}\n" in message
    assert message.count(": was ") == 1
    assert out in message
    assert "Choose another --out for the new settings, or set them back" in message
    assert file_bytes(after.out) == before


def test_all_changed_settings_are_told_at_once(after: After, data: Path) -> None:
    with pytest.raises(ChangedRunError) as caught:
        begun(config(data, *BASE, "train.seed=7", "score.top_k=6", "cluster.workers=2"), after("statistics"))
    assert "train.seed: was 0, is now 7" in str(caught.value)
    assert "score.top_k: was 5, is now 6" in str(caught.value)
    assert "cluster" not in str(caught.value)


@pytest.mark.parametrize("name", ALWAYS_ACCEPTED)
def test_settings_that_change_no_lasting_result_may_change(after: After, data: Path, name: str) -> None:
    proofs = begun(changed(data, name, ALWAYS_ACCEPTED[name]), after("statistics"))
    assert proofs.need(SCORE).work == "score"


@pytest.mark.parametrize("point", ["begun", "train", "factors", "unit", "score"])
@pytest.mark.parametrize(("stage", "name"), ALL_CHANGES)
def test_a_setting_may_change_until_its_stage_has_work(
    stopped: dict[str, Path], data: Path, point: str, stage: str, name: str
) -> None:
    order = ["begun", "train", "factors", "score"]
    reached = order.index("score" if point == "unit" else point)
    refused = order.index(stage) <= reached and name not in RENEWING
    # Without copying the run: only its record is looked at, and it is put back.
    record = stopped[point] / run_directory.RUN_JSON
    before = record.read_bytes()
    try:
        if refused:
            with pytest.raises(ChangedRunError, match=name):
                begun(changed(data, name, CHANGES[stage][name][0]), str(stopped[point]))
            assert record.read_bytes() == before
        else:
            begun(changed(data, name, CHANGES[stage][name][0]), str(stopped[point]))
    finally:
        record.write_bytes(before)


def test_data_that_moved_is_the_same_data(after: After, data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "elsewhere")
    proofs = begun(config(moved, *BASE), after("statistics"))
    assert proofs.need(SCORE).work == "score"
    recorded = json.loads((after.out / run_directory.RUN_JSON).read_bytes())
    fingerprint = proofs.run.dataset.fingerprint
    assert recorded["data"] == {
        "address": str(moved),
        "name": "small images",
        "fingerprint": fingerprint,
        "parts": {name: proofs.run.part(name) for name in ("train", "test", "scored")},
        "description": sha256((moved / "dataset.json").read_bytes()).hexdigest(),
        "meaning": proofs.run.dataset.description.meaning_digest,
    }


def test_other_data_is_refused_once_there_is_work(after: After, stopped: dict[str, Path], tmp_path: Path) -> None:
    other = write_images(tmp_path / "other", train=200, seed=1)
    with pytest.raises(ChangedRunError, match=r"\(data fingerprint\): was '\w{64}', is now '\w{64}'"):
        begun(config(other, *BASE), after("train"))
    shutil.copytree(stopped["begun"], tmp_path / "begun")
    begun(config(other, *BASE), str(tmp_path / "begun"))


def test_other_code_is_refused_once_there_is_work(
    after: After, stopped: dict[str, Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_module, "code_digest", lambda *modules: 12 * "0")
    with pytest.raises(ChangedRunError, match=r"\(code of stage train\): was '\w{12}\.\w{12}', is now '0{12}\.\w{12}'"):
        begun(config(data, *BASE), after("train"))
    shutil.copytree(stopped["begun"], tmp_path / "begun")
    open_run(config(data, *BASE), str(tmp_path / "begun"))


def test_a_task_of_the_users_own_is_code_too(after: After, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = run_module.task_code("tests.support.images")
    monkeypatch.setattr(run_module, "task_code", lambda name: TaskCode("0123456789ab", code.modules))
    with pytest.raises(ChangedRunError, match=r"was '(\w{12})\.\w{12}', is now '\1\.0123456789ab'"):
        begun(config(data, *BASE), after("train"))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'{"configuration": {}}',
        b'{"configuration": {"task": "a", "colour": 1}}',
        b"\xff\xfe",
    ],
)
def test_a_damaged_record_is_told_by_name(after: After, data: Path, content: bytes) -> None:
    out = after("train")
    (after.out / run_directory.RUN_JSON).write_bytes(content)
    with pytest.raises(StorageError, match=r"(?s)expected the record of a run in .*run.json, found .*another --out"):
        begun(config(data, *BASE), out)
    assert (after.out / run_directory.RUN_JSON).read_bytes() == content


@pytest.mark.parametrize(
    ("point", "stage", "missing"),
    [
        ("begun", "factors", "train"),
        ("begun", "score", "train"),
        ("begun", "statistics", "train"),
        ("train", "score", "factors"),
        ("train", "statistics", "factors"),
        ("factors", "statistics", "score"),
        ("factors", "leave_one_out", "score"),
        ("begun", "leave_one_out", "train"),
    ],
)
def test_a_missing_earlier_stage_is_named_with_its_job(
    after: After, data: Path, point: str, stage: str, missing: str
) -> None:
    out = after(point)
    with pytest.raises(MissingStageError, match=f"stage '{missing}' in .*; run relatif {missing} with"):
        run_named(config(data, *BASE), out, stage)


def test_factors_that_need_no_checkpoint_wait_for_it_all_the_same(after: After, data: Path) -> None:
    out = after("begun")
    with pytest.raises(MissingStageError, match="run relatif train"):
        run_named(config(data, *BASE, "curvature.method=identity"), out, "factors")
    assert not (after.out / run_directory.FACTORS).exists()


def test_what_a_run_depends_on_is_in_its_digests(stopped: dict[str, Path], data: Path) -> None:
    """Every setting of a stage and of those before it changes the stage's digest; no other setting does."""
    run = open_run(config(data, *BASE), str(stopped["factors"]))
    every = (*WHOLE_RUN, LEAVE_ONE_OUT_STAGE, *(evaluation.stage for evaluation in EVALUATIONS.values()))

    def digests(changed_config: RunConfig) -> dict[str, str]:
        other = Run(changed_config, run.store, run.data, run.dataset)
        asked = {stage.name: (stage.all_settings, stage.parts) for stage in every}
        return {
            name: other.digest(name, settings=settings, code="the same", parts=parts)
            for name, (settings, parts) in asked.items()
        }

    base = digests(run.config)
    for stage, name in ALL_CHANGES:
        now = digests(changed(data, name, CHANGES[stage][name][0]))
        later = {each.name for each in every if stage in (each.name, *(before.name for before in each.before))}
        assert {each for each in base if now[each] != base[each]} == later, name
    for name, value in ALWAYS_ACCEPTED.items():
        now = digests(changed(data, name, value))
        assert {each for each in base if now[each] != base[each]} == {name.partition(".")[0]} & base.keys(), name


def test_the_record_names_versions_data_and_checkpoint(stopped: dict[str, Path], data: Path) -> None:
    record = json.loads((stopped["statistics"] / run_directory.RUN_JSON).read_bytes())
    proof = json.loads((stopped["statistics"] / run_directory.CHECKPOINT_MANIFEST).read_bytes())
    assert record["checkpoint"] == {"path": run_directory.CHECKPOINT, "sha256": proof["outputs"][0]["sha256"]}
    assert set(record["versions"]) == {"python", "torch", "ray", "pyarrow", "numpy"}
    assert RunConfig.model_validate(record["configuration"]) == config(data, *BASE)
    assert json.loads((stopped["begun"] / run_directory.RUN_JSON).read_bytes())["checkpoint"] is None


def test_labels_that_are_no_classes_are_neither_merged_nor_flipped(tmp_path: Path) -> None:
    published = open_dataset(open_store(write_images(tmp_path / "data", train=20, test=4)))
    counts = replace(published, description=published.description.model_copy(update={"class_names": ()}))
    assert relabelled(counts, config(tmp_path).data).class_names == ()
    for setting in ("data.flip_share=0.1", "data.merge_classes=2"):
        with pytest.raises(ConfigurationError, match=r"which has no classes; leave both settings out"):
            relabelled(counts, config(tmp_path, setting).data)
