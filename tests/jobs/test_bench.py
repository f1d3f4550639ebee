"""What the benchmark refuses, before it times anything."""

import re
from pathlib import Path

import pytest

from relatif.jobs import bench
from relatif.jobs._explain_bench import _cold
from relatif.schemas.errors import RelatifError
from tests.support.explained_runs import finished


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--config", "no/such.toml"]) == 1
    assert capsys.readouterr().err.startswith("error: expected a configuration")


def test_nothing_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--repeats", "0"])
    assert stopped.value.code == 2
    assert "expected at least 1, found 0" in capsys.readouterr().err


def test_first_and_further_explanations_are_timed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = finished(tmp_path, "logistic", "score.gradient_store=true")
    monkeypatch.setattr("relatif.jobs._explain_bench.REPEATS", 1)
    monkeypatch.setattr("relatif.jobs._explain_bench.FURTHER", 2)
    monkeypatch.setattr("relatif.jobs._explain_bench._cold", lambda *_: [1.5])
    assert bench.main(["--explain", str(out)]) == 0
    first, inputs, *_ = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"tests\.support\.images:logistic: 200 examples, kept gradients \(bfloat16\), \d+ cores", first)
    assert re.match(r"test input: first answer 1\.50 s \(of 1 starts: .*\), further ones \d+ ms", inputs)


def test_a_command_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(RelatifError, match="expected a run in"):
        _cold(str(tmp_path / "none"), "--test-index", "0")
