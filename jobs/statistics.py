"""Run one stage: ``python -m jobs.statistics --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.jobs._results import print_results
from relatif.pipeline.stages.statistics import STATISTICS


def main(argv: Sequence[str] | None = None) -> int:
    """Aggregate the paper's statistics and print them. Exit status 0 only when everything was written."""
    return run_command("statistics", lambda _: [STATISTICS], argv, "Aggregate the paper's statistics.", print_results)


if __name__ == "__main__":
    raise SystemExit(main())
