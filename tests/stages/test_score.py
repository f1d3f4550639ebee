"""The score stage: how it is cut, what it refuses, and that it continues from finished units alone."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from relatif.pipeline.datasets import verifying
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.stages.score import group_shards, plan_score
from relatif.pipeline.storage.manifests import read_manifest
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, DataError
from tests.support.images import write_images
from tests.support.runs import config, dense, file_bytes, run_named, stage_run, tables

TRAINING, TESTS = 200, 40
BASE = ("data.shard_rows=50", "score.top_k=5", "score.unit_rows=50", "train.tolerance=1e-3", "score.write_scores=true")
ONE_ACTOR = ("cluster.workers=1", "cluster.threads_per_worker=1")

Begin = Callable[[str], str]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 80))
def test_groups_are_the_longest_runs_within_a_limit(sizes: list[int], rows: int) -> None:
    starts = [sum(sizes[:place]) for place in range(len(sizes))]
    shards = [
        Shard("train", place, start, start + size, ())
        for place, (start, size) in enumerate(zip(starts, sizes, strict=True))
    ]
    groups = group_shards(shards, rows)
    assert [shard for group in groups for shard in group] == shards
    lengths = [sum(shard.rows for shard in group) for group in groups]
    assert all(length <= rows or len(group) == 1 for length, group in zip(lengths, groups, strict=True))
    for place, group in enumerate(groups[1:]):
        assert lengths[place] + group[0].rows > rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING, test=TESTS, rows_per_group=10)


@pytest.fixture(scope="module")
def with_factors(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    """A run that is ready to be scored."""
    out = tmp_path_factory.mktemp("runs") / "factors"
    run_named(config(data, *BASE), out, "train", "factors")
    return out


@pytest.fixture(scope="module")
def undisturbed(with_factors: Path, data: Path) -> Path:
    """The same run, scored at once."""
    out = shutil.copytree(with_factors, with_factors.parent / "undisturbed")
    run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    return out


@pytest.fixture
def out(with_factors: Path, tmp_path: Path) -> Path:
    """A copy of the run that is ready to be scored."""
    return shutil.copytree(with_factors, tmp_path / "run")


def assert_same_tables(found: Path, expected: Path) -> None:
    ours, theirs = tables(found), tables(expected)
    assert list(ours) == list(theirs)
    for name, table in theirs.items():
        assert ours[name].equals(table), name


def test_a_plan_covers_every_pair_once(with_factors: Path, data: Path) -> None:
    run = open_run(config(data, *BASE, "score.test_block_rows=20", "score.unit_rows=110"), str(with_factors))
    stage = plan_score(stage_run(run, "score"))
    extents = [(unit.block, unit.index, unit.shards[0].start, unit.shards[-1].stop) for unit in stage.units]
    assert extents == [(0, 0, 0, 100), (0, 1, 100, 200), (1, 0, 0, 100), (1, 1, 100, 200)]
    assert [(block.start, block.stop) for block in stage.blocks] == [(0, 20), (20, 40)]
    assert len({unit.digest for unit in stage.units}) == len(stage.units)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("score.explained_label=4", r"score\.explained_label 'predicted', 'true' or a class from 0 to 3, found 4"),
        ("score.top_k=201", r"score\.top_k of at most the 200 training examples, found 201"),
        ("score.test_block_rows=1", r"score\.test_block_rows of at least the \d+ rows of a row group .*found 1;"),
        ("score.test_limit=41", "a limit from 1 to the 40 rows of small images/test .*found limit 41"),
    ],
)
def test_what_data_or_task_cannot_meet_is_refused(out: Path, data: Path, setting: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        run_named(config(data, *BASE, setting), out, "score")
    assert not (out / run_directory.TABLES).exists()


def test_a_stopped_stage_continues_with_the_units_that_are_missing(
    out: Path,
    data: Path,
    undisturbed: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Damaged data stop the stage at a unit of the test's choice; whole data let it go on."""
    broken = shutil.copytree(data, tmp_path / "data")
    part = broken / "train/part-00000.parquet"
    whole = part.read_bytes()
    # Training rows 100 to 109 begin the third unit.
    place = pq.ParquetFile(part).metadata.row_group(10).column(0).data_page_offset + 200
    part.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
    monkeypatch.setattr(verifying, "HASHED_BYTES", 0)  # as of a large data set, whose damage shows when it is read
    with pytest.raises(DataError, match=f"{part}.*prepare the data set again"):
        run_named(config(broken, *BASE, *ONE_ACTOR), out, "score")
    assert [path.name for path in sorted((out / run_directory.SCORE_WORK).glob("*.json"))] == [
        "00000-00000.json",
        "00000-00001.json",
    ]
    part.write_bytes(whole)
    capsys.readouterr()
    run_named(config(broken, *BASE, *ONE_ACTOR), out, "score")
    log = capsys.readouterr().err
    assert "score: unit 00000-00000 (training rows 0 to 49) was finished earlier" in log
    assert "score: unit 00000-00001 (training rows 50 to 99) was finished earlier" in log
    assert log.count("not computed again") == 2
    assert "2 to compute, 2 finished earlier" in log
    assert "score: begins, 2/4 units done" in log
    assert_same_tables(out, undisturbed)
    assert not (out / run_directory.SCORE_WORK).exists()


@pytest.mark.parametrize("lost", ["top_k.parquet", "json"])
def test_a_unit_whose_files_are_not_whole_is_computed_again(
    out: Path, data: Path, undisturbed: Path, lost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_before_the_join(out, data, monkeypatch)
    (out / run_directory.SCORE_WORK / f"00000-00000.{lost}").write_bytes(b"{")
    run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    assert_same_tables(out, undisturbed)


def test_a_stage_stopped_at_the_join_computes_no_unit_again(
    out: Path, data: Path, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_before_the_join(out, data, monkeypatch)
    capsys.readouterr()
    run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    assert "0 to compute, 4 finished earlier" in capsys.readouterr().err
    assert_same_tables(out, undisturbed)


def stop_before_the_join(out: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("relatif.pipeline.stages.score._join", stop)
        with pytest.raises(KeyboardInterrupt):
            run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    assert len(list((out / run_directory.SCORE_WORK).glob("*.json"))) == 4


def test_the_proof_covers_every_file_of_the_tables(undisturbed: Path) -> None:
    proof = read_manifest(open_store(undisturbed), run_directory.stage_manifest("score"))
    written = file_bytes(undisturbed, "tables/**/*")
    assert {output.path: output.bytes for output in proof.outputs} == {
        path: len(content) for path, content in written.items()
    }


@pytest.mark.parametrize("name", ["scores", "train_examples"])
def test_a_table_that_lost_a_part_is_made_again(undisturbed: Path, data: Path, tmp_path: Path, name: str) -> None:
    out = shutil.copytree(undisturbed, tmp_path / "run")
    next((out / run_directory.table(name)).iterdir()).unlink()
    run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    assert_same_tables(out, undisturbed)


def test_parts_of_an_attempt_with_other_settings_do_not_stay(out: Path, data: Path, undisturbed: Path) -> None:
    """A unit publishes its part of ``scores`` before its proof: without the proof, settings may still change."""
    left = out / run_directory.scores_part(0, 9)
    left.parent.mkdir(parents=True)
    shutil.copy(undisturbed / run_directory.scores_part(0, 0), left)
    run_named(config(data, *BASE, *ONE_ACTOR), out, "score")
    assert_same_tables(out, undisturbed)
    assert dense(tables(out)["scores"], TESTS, TRAINING).shape == (TESTS, TRAINING)


def test_the_plan_is_printed_before_the_work(out: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_named(config(data, *BASE, *ONE_ACTOR, "curvature.damping=0.25"), out, "score")
    log = capsys.readouterr().err
    for line in (
        "kfac, damping 0.25",
        "40 test inputs x 200 training examples",
        "4 to compute, 0 finished earlier",
        "1 with 1 core(s) and no GPU each",
        "memory per actor  about",
        "bytes to write    about 44.9 KiB",
    ):
        assert line in log, line
    assert log.index("bytes to write") < log.index("score: begins, 0/4 units done")
