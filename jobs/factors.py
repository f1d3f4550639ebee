"""Run one stage: ``python -m jobs.factors --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.pipeline.stages.factors import FACTORS


def main(argv: Sequence[str] | None = None) -> int:
    """Build the curvature's factors. Exit status 0 only when everything was written."""
    return run_command("factors", lambda _: [FACTORS], argv, "Build the curvature's factors.")


if __name__ == "__main__":
    raise SystemExit(main())
