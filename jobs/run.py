"""Run all stages, or continue a stopped run: ``python -m jobs.run --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.jobs._results import print_results
from relatif.pipeline.stages.whole_run import WHOLE_RUN


def main(argv: Sequence[str] | None = None) -> int:
    """Run every stage and print Table 1. Exit status 0 only when everything was written."""
    return run_command("run", lambda _: WHOLE_RUN, argv, "Run all stages, or continue a stopped run.", print_results)


if __name__ == "__main__":
    raise SystemExit(main())
