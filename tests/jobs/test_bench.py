"""What the benchmark refuses, before it times anything."""

import pytest

from relatif.jobs import bench


def test_an_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--config", "no/such.toml"]) == 1
    assert capsys.readouterr().err.startswith("error: expected a configuration")


def test_nothing_is_not_timed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--repeats", "0"])
    assert stopped.value.code == 2
    assert "expected at least 1, found 0" in capsys.readouterr().err
