"""Stages as values: their order, what they are handed, and how often the driver reads and builds."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from relatif.pipeline.cluster.session import Cluster, Resources
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import begin
from relatif.pipeline.runs.stage import Proofs, Stage, StageRun, stages_before
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.store import Store
from relatif.pipeline.tasks import task as task_module
from relatif.schemas import run_directory
from relatif.schemas.config import ClusterConfig
from relatif.schemas.errors import MissingStageError
from tests.support.images import logistic, write_images
from tests.support.runs import config, run_named

NO_CLUSTER = Cluster(ClusterConfig(), Resources(nodes=1, cpus=2, gpus=0, node_cpus=2, address=""))


def note(stage: StageRun) -> Made:
    """Write what the stage was handed."""
    told = f"{stage.stage.name} after {sorted(stage.proofs)}".encode()
    return Made((stage.run.store.publish_bytes(f"out/{stage.stage.name}", told),))


FIRST = Stage("first", note, "work/first.json", settings=("train.",))
SECOND = Stage("second", note, "work/second.json", settings=("score.",), after=(FIRST,))
THIRD = Stage("third", note, "work/third.json", after=(SECOND,), work_folder="work/third")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    data = write_images(tmp_path / "data", train=60)
    return open_run(config(data), str(tmp_path / "run"))


def test_stages_know_those_before_them() -> None:
    assert [stage.name for stage in THIRD.before] == ["first", "second"]
    assert THIRD.all_settings == ("train.", "score.")
    assert [stage.name for stage in stages_before([THIRD, SECOND])] == ["first", "second", "third"]
    assert [stage.name for stage in stages_before(WHOLE_RUN)] == ["train", "factors", "score", "statistics"]


def test_a_stage_is_handed_the_proofs_of_those_before_it(run: Run) -> None:
    proofs = Proofs(run)
    with pytest.raises(MissingStageError, match=r"result of stage 'first' in .*; run relatif first with the same"):
        proofs.make(THIRD, NO_CLUSTER)
    run.store.publish_bytes("work/third/unit.json", b"{}")
    for stage in (FIRST, SECOND, THIRD):
        proofs.make(stage, NO_CLUSTER)
    assert run.store.read_bytes("out/third") == b"third after ['first', 'second']"
    assert not run.store.exists("work/third"), "the stage's own proof stands for its units'"
    assert all(Proofs(run).find(stage) == proofs.need(stage) for stage in (FIRST, SECOND, THIRD))


def test_a_proof_depends_on_what_the_stages_before_left(run: Run) -> None:
    proofs = Proofs(run)
    for stage in (FIRST, SECOND):
        proofs.make(stage, NO_CLUSTER)
    other = replace(FIRST, work=lambda stage: Made((stage.run.store.publish_bytes("out/first", b"another"),)))
    # A function of this module, too: only what it left is different.
    again = Proofs(run)
    again.make(other, NO_CLUSTER)
    assert again.find(replace(SECOND, after=(other,))) is None


def test_units_of_a_stage_depend_on_all_of_it_and_shared_units_on_what_came_before(run: Run) -> None:
    proofs = Proofs(run)
    for stage in (FIRST, SECOND):
        proofs.make(stage, NO_CLUSTER)

    def handed(changed: Run) -> StageRun:
        found = {"first": proofs.need(FIRST), "second": proofs.need(SECOND)}
        return StageRun(changed, NO_CLUSTER, found, replace(THIRD, settings=("leave_one_out.",)), "digest")

    changed = handed(replace(run, config=config(Path(run.data.url), "leave_one_out.seed=3")))
    same, module = handed(run), "relatif.pipeline.retraining.removals"
    assert same.unit_digest(unit=1) != same.unit_digest(unit=2)
    assert same.unit_digest(unit=1) != changed.unit_digest(unit=1)
    assert same.shared_digest("a", module, unit=1) == changed.shared_digest("a", module, unit=1)
    assert same.shared_digest("a", module, unit=1) != same.shared_digest("a", module, unit=2)
    assert same.shared_digest("a", module) != same.shared_digest("a", "relatif.pipeline.retraining.subsets")


@pytest.mark.usefixtures("local_ray")
def test_the_driver_reads_each_proof_at_most_twice_and_builds_the_model_at_most_three_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a new run and of the same run repeated, with one unit of score work. On object storage a read is a trip."""
    data = write_images(tmp_path / "data", train=200)
    made = config(data, "score.top_k=5", "train.tolerance=1e-3")
    reads, builds = Counter[str](), Counter[str]()
    read, build = Store.find_bytes, logistic

    def counting_read(store: Store, path: str) -> bytes | None:
        reads[path] += path.endswith(".json")
        return read(store, path)

    def counting_task() -> task_module.Task:
        task = build()

        def model() -> object:
            builds["model"] += 1
            return task.build_model()

        return replace(task, build_model=model)

    monkeypatch.setattr(Store, "find_bytes", counting_read)
    monkeypatch.setattr("tests.support.images.logistic", counting_task)
    coverage_of.cache_clear()
    for _ in range(2):
        reads.clear()
        builds.clear()
        run_named(made, tmp_path / "run")
        # A claim is looked at before each publication.
        other = {path for path in reads if path == "run.json" or path.startswith("work/claims/")}
        manifests = {path: count for path, count in reads.items() if path not in other}
        assert max(manifests.values(), default=0) <= 2, manifests
        # For what is covered, and twice for the audit, which compares two.
        assert builds["model"] <= 3
    assert set(manifests) >= {"checkpoint/manifest.json", "factors/manifest.json", "work/score.json"}


def test_a_missing_stage_is_told_before_anything_is_written_or_started(run: Run) -> None:
    with pytest.raises(MissingStageError, match="result of stage 'first'"):
        begin(run, [THIRD])
    assert not run.store.exists(run_directory.RUN_JSON)
