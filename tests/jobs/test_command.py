"""The command line of stage jobs: what happens when results can't be shown."""

from types import SimpleNamespace

import pytest

from relatif.jobs import _command as command
from relatif.jobs._command import Results, run_command
from relatif.jobs._ending import INTERRUPTED
from relatif.schemas.errors import DataError
from tests.support.runs import MNIST_CONFIG


@pytest.mark.parametrize(
    ("raised", "status", "told"),
    [
        (None, 0, ""),
        (DataError("expected a table, found none"), 1, "error: expected a table, found none\n"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: run the same command again"),
    ],
)
def test_an_error_while_results_are_shown_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException | None,
    status: int,
    told: str,
) -> None:
    monkeypatch.setattr(command, "run_stages", lambda *_, **__: SimpleNamespace(store="the run's"))
    shown = []

    def show(results: Results) -> None:
        shown.append(results.store)
        if raised is not None:
            raise raised

    assert run_command("run", lambda _: [], ["--config", str(MNIST_CONFIG), "--out", "x"], "", show) == status
    assert shown == ["the run's"]
    assert capsys.readouterr().err.startswith(told)
