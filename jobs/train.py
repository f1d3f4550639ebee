"""Run one stage: ``python -m jobs.train --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.pipeline.stages.train import TRAIN


def main(argv: Sequence[str] | None = None) -> int:
    """Train the task's model. Exit status 0 only when everything was written."""
    return run_command("train", lambda _: [TRAIN], argv, "Train the task's model.")


if __name__ == "__main__":
    raise SystemExit(main())
