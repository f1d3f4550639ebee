"""The command prepares a data set and says what it wrote, or what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

import polars
import pytest

from relatif.jobs.prepare import main
from tests.reference.cifar import binary_files, made_up_batches, write_files
from tests.reference.idx import made_up_digits, write_digits

REPOSITORY = Path(__file__).resolve().parents[2]


def test_the_command_writes_shards_and_says_so(tmp_path: Path) -> None:
    digits = made_up_digits(12_000, 50)
    write_digits(tmp_path / "source", digits)
    command = [sys.executable, "-m", "jobs.prepare", "mnist", "--source", str(tmp_path / "source"), "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "train: 12000 rows in 2 files" in ended.stdout
    assert "test/part-00000.parquet  50 rows" in ended.stdout
    labels = polars.read_parquet(tmp_path / "out/train/*.parquet")["label"]
    assert labels.to_list() == digits["train-labels-idx1-ubyte"].tolist()


def test_every_published_format_is_offered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path / "batches", binary_files(made_up_batches(4)))
    write_files(tmp_path / "names", {"Greek.txt": b"Ada\nBob\nCy\n", "Irish.txt": b"Dan\nEve\nFay\n"})
    for name, source, summary in (
        ("cifar10", "batches", "train: 20 rows in 1 files"),
        ("surnames", "names", "train: 4 rows in 1 files"),
    ):
        assert main([name, "--source", str(tmp_path / source), "--out", str(tmp_path / name)]) == 0
        assert summary in capsys.readouterr().out
    assert main(["image_parquet", "--source", str(tmp_path / "names"), "--out", str(tmp_path / "out")]) == 1
    assert "expected train.parquet or train-*.parquet" in capsys.readouterr().err


def test_bad_data_is_told_on_stderr_with_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_digits(tmp_path, made_up_digits(5, 3))
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    assert main(["mnist", "--source", str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "t10k-labels-idx1-ubyte" in printed.err
    assert printed.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("arguments", [["nosuch", "--source", "a", "--out", "b"], ["mnist", "--source", "a"], []])
def test_wrong_usage_ends_with_status_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: relatif prepare" in capsys.readouterr().err
