"""Look at a run before it is made, or verify a finished one: ``python -m jobs.check --config FILE --out DIRECTORY``."""

import argparse
from collections.abc import Sequence

from relatif.jobs._command import configured, parser
from relatif.jobs._ending import status_of
from relatif.jobs._modules import find_modules_here
from relatif.pipeline.console import format_bytes
from relatif.pipeline.preflight.looking import look
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.text import plan_text
from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import StorageError

DESCRIPTION = (
    "Look at everything that can be known before a run, or verify a finished one. "
    "Nothing is written, and no Ray is started."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a run's plan, or what verifying found; exit status 0, 1 where anything is wrong, 2 for wrong usage."""
    described = parser("check", DESCRIPTION, required=False)
    described.add_argument("--run", metavar="OUT", help="verify the finished run in this directory or URL instead")
    arguments = described.parse_args(argv)
    if (arguments.run is None) == (arguments.config is None or arguments.out is None):
        described.error("expected either --config and --out, or --run alone, found otherwise; give one of both")
    find_modules_here()
    work = _plan if arguments.run is None else _verify
    return status_of(lambda: work(arguments), debug=arguments.debug)


def _plan(arguments: argparse.Namespace) -> None:
    config = configured(arguments)
    with opened(config, arguments.out) as run:
        print(plan_text(look(run, WHOLE_RUN)))


def _verify(arguments: argparse.Namespace) -> None:
    found, place = verify_run(arguments.run), open_store(arguments.run).describe()
    for fault in found.faults:
        print(fault)
    if found.faults:
        raise StorageError(
            f"expected a whole run in {place}, found {len(found.faults)} fault(s), each told above; run the job that "
            f"made it again, such as relatif run --config ... --out OUT: it makes what can be made, and names the rest"
        )
    print(f"{place}: {found.files:,} files of {format_bytes(found.bytes)} are what their proofs say")
    if not found.sealed:
        print("these proofs are of an early version, which did not seal its proofs: damage to a proof may go unseen")


if __name__ == "__main__":
    raise SystemExit(main())
