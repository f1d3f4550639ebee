"""All stages one after the other: each once, with proof, and statistics from the tables alone."""

import shutil
from pathlib import Path

import pytest

from relatif.pipeline.stages.statistics import holds_only_tables, statistics_of_tables
from relatif.pipeline.storage.parquet import table_metadata
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, NumericalError
from relatif.schemas.tables import TABLES
from tests.support.images import LOGISTIC, write_images
from tests.support.runs import ALWAYS_WRITTEN, config, file_bytes, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

BASE = ("data.shard_rows=50", "score.top_k=5", "train.tolerance=1e-3", "curvature.damping=0.5")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=200)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    run_named(config(data, *BASE), out)
    return out


def times(out: Path) -> dict[str, int]:
    """When every file but the record was last written."""
    files = {path.relative_to(out).as_posix(): path.stat().st_mtime_ns for path in out.glob("**/*") if path.is_file()}
    return {name: when for name, when in files.items() if name != run_directory.RUN_JSON}


def test_everything_asked_for_is_written_and_nothing_else(finished_run: Path) -> None:
    assert set(file_bytes(finished_run)) == {
        run_directory.RUN_JSON,
        run_directory.CHECKPOINT,
        run_directory.OUTPUTS,
        run_directory.CHECKPOINT_MANIFEST,
        run_directory.factor_file("linear"),
        run_directory.FACTORS_MANIFEST,
        run_directory.COVERAGE,
        *(run_directory.table_part(name, 0) for name in ALWAYS_WRITTEN),
        run_directory.stage_manifest("score"),
        run_directory.stage_manifest("statistics"),
    }


def test_every_table_has_its_schema_and_says_how_it_was_made(finished_run: Path) -> None:
    for name, table in tables(finished_run).items():
        assert table.schema.equals(TABLES[name].schema), name
        said = table_metadata(open_store(finished_run / "tables"), name)
        assert (said["task"], said["curvature"], said["damping"]) == (LOGISTIC, "kfac", "0.5")
        assert (said["train_count"], said["test_count"], said["explained_label"]) == ("200", "40", "predicted")
        assert said["schema_version"] == "1"
        assert "helpful" in said["sign"]


def test_a_finished_run_is_not_computed_again(
    finished_run: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = times(finished_run)
    run_named(config(data, *BASE), finished_run)
    log = capsys.readouterr().err
    for stage in ("train", "factors", "score", "statistics"):
        assert f"{stage}: was finished earlier in " in log
    assert log.count("not computed again") == 4
    assert times(finished_run) == before


@pytest.mark.parametrize(
    ("lost", "again"),
    [
        (run_directory.CHECKPOINT, "train"),
        (run_directory.factor_file("linear"), "factors"),
        (run_directory.table_part("top_k", 0), "score"),
        (run_directory.table_part("overlap", 0), "statistics"),
    ],
)
def test_a_result_that_was_lost_is_made_again_the_same(
    finished_run: Path, data: Path, tmp_path: Path, lost: str, again: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = shutil.copytree(finished_run, tmp_path / "run")
    (out / lost).unlink()
    run_named(config(data, *BASE), out)
    log = capsys.readouterr().err
    assert f"{again}: begins" in log
    assert log.count("not computed again") == 3, "what depends on it was made of the same bytes"
    assert file_bytes(out, "tables/**/*") == file_bytes(finished_run, "tables/**/*")
    assert (out / lost).read_bytes() == (finished_run / lost).read_bytes()


def test_other_statistics_are_computed_from_the_same_tables(finished_run: Path, data: Path, tmp_path: Path) -> None:
    out = shutil.copytree(finished_run, tmp_path / "run")
    before = times(out)
    wanted = ("statistics.influence_set_k=[2]", "statistics.overlap_k=[3,4]")
    run_named(config(data, *BASE, *wanted), out, "statistics")
    assert set(tables(out)["influence_sets"]["k"].to_pylist()) == {2}
    assert set(tables(out)["overlap"]["k"].to_pylist()) == {3, 4}
    after = times(out)
    changed = {name for name in after if after[name] != before[name]}
    parts = {run_directory.table_part(name, 0) for name in ("influence_sets", "overlap")}
    assert changed == {*parts, run_directory.stage_manifest("statistics")}


def test_statistics_need_nothing_but_the_tables(finished_run: Path, data: Path, tmp_path: Path) -> None:
    """Of a run only score tables are taken elsewhere: no data, no model, no record."""
    for name in ("train_examples", "test_examples", "top_k"):
        shutil.copytree(finished_run / run_directory.table(name), tmp_path / run_directory.table(name))
    assert holds_only_tables(str(tmp_path))
    assert not holds_only_tables(str(finished_run))
    assert not holds_only_tables(str(tmp_path / "nothing"))
    statistics_of_tables(config(data / "gone", *BASE), str(tmp_path))
    for name in ("influence_sets", "overlap"):
        assert tables(tmp_path)[name].equals(tables(finished_run)[name])
        part = run_directory.table_part(name, 0)
        assert (tmp_path / part).read_bytes() == (finished_run / part).read_bytes(), "its metadata is the run's"


def test_a_failed_stage_leaves_the_later_ones_alone(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NumericalError, match="expected training to reach"):
        run_named(config(data, *BASE, "train.max_iterations=1"), tmp_path)
    assert set(file_bytes(tmp_path)) == {run_directory.RUN_JSON}


def test_what_is_no_task_is_told_before_anything_is_written(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="to return a Task, found str 'no task'; return a Task"):
        run_named(config(data, *BASE, task="tests.support.images:no_task"), tmp_path)
    assert set(file_bytes(tmp_path)) == set()
