"""However a job fails, it ends with one line and a status; the traceback is shown on request."""

import re

import pytest

from relatif.jobs.__main__ import JOBS, main
from relatif.jobs._ending import FAILED, INTERRUPTED, status_of
from relatif.schemas.errors import DataError


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (DataError("expected a, found b; do c"), FAILED, "error: expected a, found b; do c"),
        (ZeroDivisionError("by\nnothing"), FAILED, "error: expected no error but .*ZeroDivisionError: by nothing at"),
        (SystemExit(0), FAILED, r"error: expected no error but .*found sys\.exit\(0\) at"),
        (KeyboardInterrupt(), INTERRUPTED, "interrupted: run the same command again"),
    ],
)
def test_an_error_is_one_line_and_a_traceback_on_request(error, status, told, debug, capsys) -> None:
    def work() -> None:
        raise error

    assert status_of(work, debug=debug) == status
    printed = capsys.readouterr().err
    assert ("Traceback (most recent call last)" in printed) is (debug and status == FAILED)
    assert re.match(told, printed.splitlines()[-1]), printed
    assert debug or len(printed.splitlines()) == 1


def test_work_that_is_done_ends_with_status_0() -> None:
    assert status_of(lambda: None) == 0


@pytest.mark.parametrize("name", JOBS)
def test_every_job_takes_debug(name, capsys) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    assert "--debug" in capsys.readouterr().out
