"""Run one stage: ``python -m jobs.leave_one_out --config FILE --out DIRECTORY``."""

from collections.abc import Sequence

from relatif.jobs._command import Results, run_command
from relatif.pipeline.evaluations.leave_one_out import LEAVE_ONE_OUT_STAGE
from relatif.pipeline.report.leave_one_out import leave_one_out_text
from relatif.pipeline.report.leave_one_out_plot import draw_changes
from relatif.pipeline.storage.parquet import read_table
from relatif.schemas import run_directory
from relatif.schemas.tables import LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS


def main(argv: Sequence[str] | None = None) -> int:
    """Leave examples out, print Tables 2 and 4 and draw Fig. 6. Exit status 0 only when everything was written."""
    description = "Retrain without the best example of every method."
    return run_command("leave_one_out", lambda _: [LEAVE_ONE_OUT_STAGE], argv, description, _show)


def _show(results: Results) -> None:
    specs = LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS
    table, predictions = (read_table(results.store, run_directory.table(spec.name)) for spec in specs)
    results.store.publish_bytes(run_directory.LEAVE_ONE_OUT_PLOT, draw_changes(table, predictions))
    print(leave_one_out_text(table, predictions, paper=results.paper))
    print(f"\nfigure: {results.store.describe(run_directory.LEAVE_ONE_OUT_PLOT)}")
    print(f"tables: {results.store.describe(run_directory.TABLES)}")


if __name__ == "__main__":
    raise SystemExit(main())
