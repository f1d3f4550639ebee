"""Evaluate explanations: ``python -m jobs.evaluate --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import run_command
from relatif.pipeline.evaluations.evaluate import chosen
from relatif.schemas import run_directory


def main(argv: Sequence[str] | None = None) -> int:
    """Make the evaluations and print them. Exit status 0 only when everything was written."""
    status, results = run_command("evaluate", ["evaluate"], argv, "Evaluate the explanations of a finished run.")
    if results is not None and results.run is not None:
        tables = results.store.child(run_directory.TABLES)
        for evaluation in chosen(results.run):
            print(f"{evaluation.text(tables)}\n")
            if evaluation.figure is not None:
                print(f"figure: {results.store.describe(evaluation.figure)}\n")
        print(f"tables: {tables.describe()}")
    return status


if __name__ == "__main__":
    raise SystemExit(main())
