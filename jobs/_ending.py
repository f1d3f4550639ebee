"""How every job ends: status 0 when its work was done, else one line that says what was wrong, and a status for it."""

import argparse
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

from relatif.pipeline.calls import unforeseen
from relatif.schemas.errors import RelatifError

FAILED = 1
INTERRUPTED = 130


def status_of(work: Callable[[], None], *, debug: bool = False) -> int:
    """Do a job's work and return its exit status; an error becomes one line, after its traceback with ``debug``."""
    try:
        work()
    except RelatifError as error:
        return _told(error, error, debug=debug)
    except KeyboardInterrupt:
        return interrupted()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, users get one line
        return _told(error, unforeseen(error), debug=debug)
    return 0


def leave(status: int) -> NoReturn:
    """End this process at once with an exit status, after what was printed is out.

    Python would first give back all that was loaded, object by object, which takes half a second with torch.
    """
    with suppress(BrokenPipeError):  # whoever reads it has seen enough
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


def interrupted() -> int:
    """Say how to go on after Ctrl-C, and return the exit status."""
    print("interrupted: run the same command again to continue; finished units are kept", file=sys.stderr)
    return INTERRUPTED


def add_debug(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--debug``."""
    parser.add_argument("--debug", action="store_true", help="print the whole traceback of an error, too")


def _told(error: BaseException, message: object, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    return FAILED
