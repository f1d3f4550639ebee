"""The command that compares runs: what it prints and writes, and its exit status."""

from pathlib import Path

import pytest
from pyarrow import csv

from relatif.jobs.compare import main
from tests.report.test_comparing import METHODS, TESTS, drawn, written


def test_runs_are_compared_in_print_and_input_by_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [str(written(tmp_path / name, drawn(seed))) for seed, name in enumerate("abc")]
    assert main([*folders, "--csv", str(tmp_path / "out" / "agreement.csv")]) == 0
    printed = capsys.readouterr().out
    assert printed.count("beside") == 3
    assert f"input by input: {tmp_path / 'out' / 'agreement.csv'}" in printed
    rows = csv.read_csv(tmp_path / "out" / "agreement.csv")
    assert rows.num_rows == 3 * len(METHODS) * TESTS
    assert rows.schema.names[:5] == ["run_a", "run_b", "by", "method", "test"]


def test_a_folder_without_a_run_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: expected a run with explanations in ")
