"""A finished run's tables as one file: ``relatif export --run OUT --table explanations --to FILE.csv``."""

import argparse
from collections.abc import Sequence

from relatif.jobs._ending import add_debug, status_of
from relatif.jobs._files import placed
from relatif.pipeline.report.export_files import format_of, write_rows
from relatif.pipeline.report.exporting import Chosen, Exported, exported, plain
from relatif.pipeline.runs.opening import open_finished, read_record
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError, MissingStageError
from relatif.schemas.exports import EXPLANATIONS
from relatif.schemas.tables import TABLES

DESCRIPTION = (
    "Write a table of a finished run as CSV, JSON Lines or Parquet, with identifiers and names of classes beside "
    f"indices and labels. The table {EXPLANATIONS.name} is top_k with what is known of both examples. docs/tables.md "
    "describes all columns. No Ray is started."
)

OWN_FOLDERS = (run_directory.TABLES, run_directory.WORK, run_directory.FACTORS, "checkpoint", run_directory.DATA)
"""Folders of a run in which every file is the run's."""


def main(argv: Sequence[str] | None = None) -> int:
    """Write a table as a file; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        format_of(arguments.to.rpartition("/")[2])
        (out, name), store = placed(arguments.to), open_store(arguments.run)
        _require_outside(store, out)
        count = write_rows(out, name, _rows(store, arguments))
        print(f"{count:,} rows of {arguments.table}: {out.describe(name)}")

    return status_of(work, debug=arguments.debug)


def _rows(store: Store, arguments: argparse.Namespace) -> Exported:
    chosen = Chosen(tuple(arguments.method), arguments.rank)
    if not arguments.plain:
        run = open_finished(arguments.run)
        return exported(run, arguments.table, chosen, with_text=arguments.with_text)
    if arguments.with_text or arguments.table == EXPLANATIONS.name:
        raise ConfigurationError(
            f"expected --plain for a table of the run as it is, found it with "
            f"{'--with-text' if arguments.with_text else f'--table {EXPLANATIONS.name}'}; leave one of them out"
        )
    if read_record(store) is None:
        raise MissingStageError(
            f"expected a run in {store.describe()}, found no {run_directory.RUN_JSON}; name the --out of a finished run"
        )
    return plain(store, arguments.table, chosen)


def _require_outside(run: Store, out: Store) -> None:
    """Raise ConfigurationError for a place among the run's own files: readers of a table take every file there."""
    for folder in OWN_FOLDERS:
        own = run.child(folder)
        if out.url == own.url or out.url.startswith(f"{own.url}/"):
            raise ConfigurationError(
                f"expected --to outside of the run's own files, found {out.describe()}; name another folder"
            )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatif export", description=DESCRIPTION)
    parser.add_argument("--run", required=True, metavar="OUT", help="directory or URL of a finished run")
    parser.add_argument(
        "--table", required=True, metavar="NAME", help=f"{EXPLANATIONS.name}, or one of {', '.join(TABLES)}"
    )
    parser.add_argument("--to", required=True, metavar="FILE", help="path or URL that ends in .csv, .jsonl or .parquet")
    parser.add_argument("--method", action="append", default=[], help="rows of this method alone; may be repeated")
    parser.add_argument("--rank", type=int, metavar="N", help="the first N examples of each explanation alone")
    parser.add_argument("--with-text", action="store_true", help="add the texts of the examples, where they are texts")
    parser.add_argument(
        "--plain", action="store_true", help="the table's own columns alone: the run's data need not be there"
    )
    add_debug(parser)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
