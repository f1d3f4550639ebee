"""Run all stages, or continue a stopped run: ``python -m jobs.run --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import Results, run_command
from relatif.jobs._results import print_results
from relatif.pipeline.report.page.making import make_report
from relatif.pipeline.stages.whole_run import WHOLE_RUN


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stage, print Table 1 and make the page. Exit status 0 only when everything was written."""
    return run_command("run", lambda _: WHOLE_RUN, argv, "Run all stages, or continue a stopped run.", _show)


def _show(results: Results) -> None:
    """Print what was found, then make the page: where that fails, the tables are finished and told."""
    print_results(results)
    if results.run is not None:
        print(make_report(results.run).text)


if __name__ == "__main__":
    raise SystemExit(main())
