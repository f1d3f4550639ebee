"""Run one stage: ``python -m jobs.score --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.pipeline.stages.score import SCORE


def main(argv: Sequence[str] | None = None) -> int:
    """Score test inputs against training examples. Exit status 0 only when everything was written."""
    return run_command("score", lambda _: [SCORE], argv, "Score test inputs against training examples.")


if __name__ == "__main__":
    raise SystemExit(main())
