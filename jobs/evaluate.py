"""Evaluate explanations: ``python -m jobs.evaluate --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import Results, run_command
from relatif.pipeline.evaluations.evaluate import chosen, left_out
from relatif.pipeline.report.presentations import present
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.stage import Stage
from relatif.schemas import run_directory


def main(argv: Sequence[str] | None = None) -> int:
    """Make the evaluations and print them. Exit status 0 only when everything was written."""
    return run_command("evaluate", _stages, argv, "Evaluate the explanations of a finished run.", _show)


def _show(results: Results) -> None:
    if results.run is not None:
        for evaluation in chosen(results.run):
            print(f"{present(results.run, evaluation.name)}\n")
        for name, reason in left_out(results.run).items():
            print(f"{name} is left out: {reason}\n")
    print(f"tables: {results.store.describe(run_directory.TABLES)}")


def _stages(run: Run) -> list[Stage]:
    return [evaluation.stage for evaluation in chosen(run)]


if __name__ == "__main__":
    raise SystemExit(main())
