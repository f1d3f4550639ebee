"""A run of the project's first releases, schema version 1, kept as it was written: what is still done with it.

``early_run.tar.xz`` holds 12 training and 9 test points of the plane. In ``run.json`` alone the address of the data,
which lies in the run, is that of where it is unpacked.
"""

import shutil
import tarfile
from pathlib import Path

import pytest

import relatif
from relatif.jobs import check, compare
from relatif.jobs import run as run_job
from relatif.pipeline.runs.verifying import verify_run

KEPT = Path(__file__).with_name("early_run.tar.xz")
TOP_K = "tables/top_k/part-00000.parquet"


@pytest.fixture
def early(tmp_path: Path) -> Path:
    folder = tmp_path / "early"
    with tarfile.open(KEPT) as kept:
        kept.extractall(folder, filter="data")
    record = folder / "run.json"
    record.write_text(record.read_text().replace("{folder}", str(folder)))
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_its_settings_and_tables_are_read(early: Path) -> None:
    run = relatif.open(str(early))

    assert (run.config.task, run.config.curvature.method, run.config.data.train_limit) == ("toy_logistic", "ekfac", 12)
    assert (run.train_rows, run.test_rows) == (12, 9)
    top_k, examples = run.table("top_k"), run.table("train_examples")
    assert top_k.column_names == ["method", "test_index", "rank", "train_index", "score"]
    assert (top_k.num_rows, examples.num_rows) == (4 * 9 * 2, 12)
    assert examples["self_influence"].to_numpy().min() > 0


def test_it_is_verified_by_its_own_proofs(early: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["--run", str(early)]) == 0
    told = capsys.readouterr().out
    assert "16 files of" in told
    assert "did not seal its proofs" in told


@pytest.mark.parametrize("path", [TOP_K, "checkpoint/model.safetensors", "factors/linear.safetensors"])
def test_a_changed_bit_in_it_is_named(early: Path, path: str) -> None:
    data = bytearray((early / path).read_bytes())
    data[len(data) // 2] ^= 1
    (early / path).write_bytes(data)

    (fault,) = verify_run(str(early)).faults

    assert f"{path} has other contents than were written" in fault


def test_explanations_of_it_are_compared(early: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = shutil.copytree(early, early.with_name("other"))
    assert compare.main([str(early), str(other)]) == 0
    assert "100.00%" in capsys.readouterr().out


def test_going_on_with_it_is_refused_before_anything_is_written(
    early: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(early)
    settings = (f"data.source={early / 'data'}", "score.top_k=2", "data.train_limit=12")
    overrides = [word for setting in settings for word in ("--set", setting)]

    assert run_job.main(["--config", "jobs/configs/toy_logistic.toml", "--out", str(early), *overrides]) != 0

    told = capsys.readouterr().err
    assert "was begun with, found changed for stage 'train'" in told
    assert "(code of stage train): was None" in told
    assert "check out that version" in told
    assert contents(early) == before
