"""Damage is seen: by the verification of a finished run, and by the command that continues one; then it is repaired.

Every damage that was once found to go unseen is a case here, and so is one bit at places drawn over all files.
"""

import os
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from relatif.pipeline.evaluations.leave_one_out import LEAVE_ONE_OUT_STAGE
from relatif.pipeline.evaluations.linear_datamodeling import LINEAR_DATAMODELING_SCORES
from relatif.pipeline.runs.durable import look_up
from relatif.pipeline.runs.opening import open_run, read_record, require_description
from relatif.pipeline.runs.stage import Proofs
from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.stages.score import SCORE, plan_score
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.schemas import run_directory
from relatif.schemas.errors import MissingStageError, RelatifError, StorageError
from tests.support.damage import DAMAGES, STAGES, Flip, Runs, flip_bit, flips, half_score, make_runs, settings
from tests.support.runs import begun, file_bytes, run_named, stage_run

pytestmark = [pytest.mark.usefixtures("local_ray"), pytest.mark.timeout(300)]  # the runs take half a minute at first

EVERY = (*WHOLE_RUN, LEAVE_ONE_OUT_STAGE, LINEAR_DATAMODELING_SCORES.stage)
FLIPS, SEED = 100, 0
"""Of each of both states."""

WHOLE_CAMPAIGN = "RELATIF_DAMAGE_CAMPAIGN" in os.environ
"""Whether the long tests repair every damage and every changed bit, in half an hour without a limit, or a few."""

PART = "tables/{}/part-00000.parquet"
SCORES = "tables/scores/part-00000-00003.parquet"
FACTORS = run_directory.factor_file("linear")
FLIPPED = ("flip 50%", "flip 2%", "flip 98%")


def cases(when: str, path: str, *damages: str) -> list[tuple[str, str, str]]:
    return [(when, path, damage) for damage in damages]


UNSEEN = [
    *cases("mid", run_directory.CHECKPOINT, *FLIPPED, "foreign"),
    *cases("mid", FACTORS, *FLIPPED, "foreign"),
    *cases("mid", run_directory.COVERAGE, *FLIPPED, "zeros"),
    *cases("mid", "work/score/00000-00003.json", "swap"),
    *cases("mid", SCORES, "flip 50%", "zeros", "foreign", "swap", "copy of a sibling"),
    *cases("done", run_directory.CHECKPOINT, *FLIPPED, "zeros", "foreign"),
    *cases("done", FACTORS, *FLIPPED, "zeros", "foreign"),
    *cases("done", PART.format("top_k"), *FLIPPED, "zeros"),
    *cases("done", PART.format("train_examples"), *FLIPPED, "zeros", "delete"),
    *cases("done", PART.format("test_examples"), *FLIPPED, "zeros"),
    *cases("done", PART.format("influence_sets"), *FLIPPED, "zeros", "foreign"),
    *cases("done", PART.format("overlap"), *FLIPPED, "zeros"),
    *cases("done", SCORES, *FLIPPED, "zeros", "foreign", "swap", "copy of a sibling"),
    *cases("done", "work/score.json", "flip 50%", "flip 98%"),
    *cases("done", "work/statistics.json", "flip 50%"),
]
"""Damages that the next command did not see before contents were compared: state, file, damage."""

REPAIRED_HERE = {
    ("mid", run_directory.CHECKPOINT, "foreign"),
    ("mid", FACTORS, "flip 50%"),
    ("mid", SCORES, "swap"),
    ("done", PART.format("test_examples"), "zeros"),
}
"""Cases that are repaired in every test run, of those that take a second each."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Runs:
    return make_runs(tmp_path_factory.mktemp("runs"))


@dataclass(frozen=True)
class Copy:
    """A copy of a run, to be damaged, and what tells of it."""

    runs: Runs
    when: str
    out: Path

    def is_seen(self) -> bool:
        """Whether the command that continues the run sees at its start that something is not as it was left."""
        try:
            # As ``begin`` does, without the audit of the model, which takes longer than all that is looked at here.
            run = open_run(settings(self.out), str(self.out))
            recorded, proofs = read_record(run.store), Proofs(run)
            assert recorded is not None
            require_description(run, recorded)
            found = {stage.name for stage in EVERY if proofs.find(stage) is not None}
            if self.when == "done":
                return found != {stage.name for stage in EVERY}
            units = plan_score(stage_run(proofs.run, "score")).units
            return found != {"train", "factors"} or len(look_up(proofs.run.store, units).pending) != 2
        except RelatifError:
            return True

    def is_repaired(self, *stages: str) -> bool:
        """Whether the same commands leave what an undisturbed run does; otherwise their error must name a file."""
        error = self._continued(stages or STAGES)
        if error is not None:
            assert re.search(r"\.json|\.safetensors|\.parquet", str(error)), error
            return False
        ours, theirs = (results(folder) for folder in (self.out, self.runs.done))
        assert stages or ours.keys() == theirs.keys()
        assert [path for path in ours if ours[path] != theirs[path]] == []
        assert verify_run(str(self.out)).faults == ()
        return True

    def _continued(self, stages: Sequence[str]) -> RelatifError | None:
        try:
            run_named(settings(self.out), self.out, *stages)
        except RelatifError as error:
            return error
        return None


def results(out: Path) -> dict[str, bytes]:
    """Everything that a run leaves but proofs and the record, which tell times and writers."""
    kept = (run_directory.COVERAGE, "data/dataset.json")
    return {path: data for path, data in file_bytes(out).items() if not path.endswith(".json") or path in kept}


@pytest.fixture
def copied(runs: Runs, tmp_path: Path) -> Callable[[str], Copy]:
    return lambda when: Copy(runs, when, shutil.copytree(runs.state(when), tmp_path / when))


def damaged(copy: Copy, path: str, damage: str) -> None:
    before = (copy.out / path).read_bytes()
    DAMAGES[damage](copy.out / path, copy.runs.foreign / path)
    assert not (copy.out / path).exists() or (copy.out / path).read_bytes() != before


@pytest.mark.parametrize(("when", "path", "damage"), UNSEEN)
def test_a_damage_once_unseen_is_seen(copied: Callable[[str], Copy], when: str, path: str, damage: str) -> None:
    copy = copied(when)
    damaged(copy, path, damage)
    faults = verify_run(str(copy.out)).faults
    assert any(path in fault for fault in faults), faults
    assert copy.is_seen()
    if (when, path, damage) in REPAIRED_HERE:
        assert copy.is_repaired(*STAGES[:4])


@pytest.mark.long
@pytest.mark.timeout(0 if WHOLE_CAMPAIGN else 600)
@pytest.mark.parametrize("when", ["mid", "done"])
def test_every_damage_that_was_once_unseen_is_repaired(runs: Runs, when: str, tmp_path: Path) -> None:
    chosen = [case for case in UNSEEN if case[0] == when and case not in REPAIRED_HERE]
    for number, (_, path, damage) in enumerate(chosen):
        if WHOLE_CAMPAIGN or number % 5 == 0:
            copy = Copy(runs, when, shutil.copytree(runs.state(when), tmp_path / str(number)))
            damaged(copy, path, damage)
            assert copy.is_repaired(*([] if WHOLE_CAMPAIGN else STAGES[:4])), (path, damage)
            shutil.rmtree(copy.out)


@pytest.mark.parametrize("when", ["mid", "done"])
def test_every_changed_bit_is_seen(copied: Callable[[str], Copy], when: str) -> None:
    copy = copied(when)
    undisturbed = set(verify_run(str(copy.out)).faults)
    assert not copy.is_seen()
    record = (copy.out / run_directory.RUN_JSON).read_bytes()
    for flip in flips(copy.out, FLIPS, SEED):
        flip_bit(copy.out / flip.path, flip.place)
        assert set(verify_run(str(copy.out)).faults) > undisturbed, flip
        assert copy.is_seen(), flip
        _undo(copy, flip, record)
    assert set(verify_run(str(copy.out)).faults) == undisturbed


def _undo(copy: Copy, flip: Flip, record: bytes) -> None:
    """Put a file back, and the record and the data, which the start of a command writes anew."""
    shutil.copyfile(copy.runs.state(copy.when) / flip.path, copy.out / flip.path)
    (copy.out / run_directory.RUN_JSON).write_bytes(record)


@pytest.mark.long
@pytest.mark.timeout(0 if WHOLE_CAMPAIGN else 1200)
@pytest.mark.parametrize("when", ["mid", "done"])
def test_changed_bits_are_repaired_or_refused_by_name(runs: Runs, when: str, tmp_path: Path) -> None:
    refused = []
    for number, flip in enumerate(flips(runs.state(when), FLIPS, SEED)[:: 1 if WHOLE_CAMPAIGN else 20]):
        copy = Copy(runs, when, shutil.copytree(runs.state(when), tmp_path / str(number)))
        flip_bit(copy.out / flip.path, flip.place)
        if not copy.is_repaired():
            refused.append(flip.path)
        shutil.rmtree(copy.out)
    # Nothing makes the record again, nor data that was not prepared from anything.
    assert all(path == run_directory.RUN_JSON or path.startswith("data/") for path in refused), refused


def test_a_finished_run_is_whole(runs: Runs) -> None:
    verified = verify_run(str(runs.done))
    assert verified.faults == ()
    assert verified.files == len(file_bytes(runs.done))
    assert verified.bytes > sum(map(len, results(runs.done).values()))
    assert [re.sub(r".*/work/", "work/", fault) for fault in verify_run(str(runs.mid)).faults] == [
        "work/score.json is missing: stage score is not finished",
        "work/statistics.json is missing: stage statistics is not finished",
    ]


def test_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match=r"expected a run in .*, found no run\.json"):
        verify_run(str(tmp_path))


def test_a_foreign_part_of_a_table_is_named_and_refused(copied: Callable[[str], Copy]) -> None:
    copy = copied("done")
    extra = copy.out / "tables/top_k/part-00007.parquet"
    shutil.copyfile(copy.out / PART.format("top_k"), extra)
    assert verify_run(str(copy.out)).faults == (f"{extra} is foreign: no proof names it",)
    with pytest.raises(StorageError, match=rf"found {extra} too; move that away"):
        run_named(settings(copy.out), copy.out, "statistics")
    assert extra.exists()


def test_results_of_several_runs_are_named(copied: Callable[[str], Copy]) -> None:
    copy = copied("done")
    for path in ("checkpoint", "factors"):
        shutil.copytree(copy.runs.foreign / path, copy.out / path, dirs_exist_ok=True)
    faults = verify_run(str(copy.out)).faults
    assert any("stage score" in fault and "made from other results of stage train" in fault for fault in faults), faults

    other = copied("mid")
    record = unsealed((other.out / run_directory.RUN_JSON).read_bytes())
    train = {**record["configuration"]["train"], "seed": 1}
    changed = {**record, "configuration": {**record["configuration"], "train": train}}
    (other.out / run_directory.RUN_JSON).write_bytes(sealed(changed))
    faults = verify_run(str(other.out)).faults
    assert any("stage train were made with train.seed = 0" in fault for fault in faults), faults


def test_proofs_of_a_writer_that_the_record_does_not_name_are_a_mixture(copied: Callable[[str], Copy]) -> None:
    copy = copied("done")
    record = unsealed((copy.out / run_directory.RUN_JSON).read_bytes())
    assert record["claims"]
    (copy.out / run_directory.RUN_JSON).write_bytes(sealed({**record, "claims": ["another"]}))
    faults = verify_run(str(copy.out)).faults
    assert any("work/score.json was published by a run that run.json does not name" in fault for fault in faults)


def test_a_half_finished_score_goes_on_where_it_was(runs: Runs, tmp_path: Path) -> None:
    out = shutil.copytree(runs.mid, tmp_path / "run")
    proofs = begun(settings(out), out)
    assert proofs.find(SCORE) is None
    half_score(out)  # in place of equal files: harmless
    units = plan_score(stage_run(proofs.run, "score")).units
    assert len(look_up(proofs.run.store, units).pending) == 2
