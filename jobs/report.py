"""Make the page of a finished run: ``python -m jobs.report --out DIRECTORY``."""

from collections.abc import Sequence
from functools import partial

from relatif.jobs._command import configured, parser
from relatif.jobs._ending import status_of
from relatif.jobs._modules import find_modules_here
from relatif.pipeline.datasets.published import open_source, read_once
from relatif.pipeline.preflight.looking import look_first
from relatif.pipeline.report.page.making import make_report
from relatif.pipeline.runs.opening import open_finished
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import Before, run_stages
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.schemas.config import RunConfig

DESCRIPTION = (
    "Make the page of a finished run, report/index.html: one file that opens from disk. A finished run knows its own "
    "settings; with --config they are compared with those that it was made with."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Make a run's page and print where it lies; exit status 0, 1 for an error, 2 for wrong usage."""
    described = parser("report", DESCRIPTION, required=False)
    arguments = described.parse_args(argv)
    if arguments.out is None or (arguments.set and arguments.config is None):
        described.error("expected --out alone, or --config, --out and --set, found otherwise; give --out")
    find_modules_here()

    def work() -> None:
        finished = open_finished(arguments.out)
        run = finished if arguments.config is None else _compared(configured(arguments), arguments.out)
        print(make_report(run).text)

    return status_of(work, debug=arguments.debug)


def _compared(config: RunConfig, out: str) -> Run:
    """Return a run with the settings that are given; ChangedRunError where its results were made with others."""
    before = Before(look_first, partial(open_source, read=read_once()))
    return run_stages(config, out, lambda _: (), known=WHOLE_RUN, before=before)


if __name__ == "__main__":
    raise SystemExit(main())
