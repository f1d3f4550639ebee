"""Turn published data files into Parquet shards: ``python -m jobs.prepare mnist --source FOLDER --out FOLDER``."""

import argparse
from collections.abc import Sequence

from relatif.jobs._ending import add_debug, status_of
from relatif.pipeline.datasets.published import FORMATS, prepare
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.storage.store import Store, open_store


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a data set and print what is there; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)

    def work() -> None:
        out = open_store(arguments.out)
        source, label_column = open_store(arguments.source), arguments.label_column
        _print_summary(out, prepare(source, out, arguments.format, label_column=label_column))

    return status_of(work, debug=arguments.debug)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatif prepare", description="Turn published data into Parquet shards.")
    known = "; ".join(f"{name}: {published.meaning}" for name, published in FORMATS.items())
    parser.add_argument("format", choices=sorted(FORMATS), help=known)
    parser.add_argument("--source", required=True, help="folder or fsspec URL of the published files")
    parser.add_argument("--out", required=True, help="folder or fsspec URL for the prepared data set")
    parser.add_argument("--label-column", help="column of labels, where files have several (data.label_column)")
    add_debug(parser)
    return parser


def _print_summary(out: Store, dataset: PreparedDataset) -> None:
    print(f"{dataset.name} in {out.describe()}")
    for name, split in dataset.description.splits.items():
        megabytes = sum(part.bytes for part in split.files) / 1e6
        print(f"  {name}: {split.rows} rows in {len(split.files)} files, {megabytes:.2f} MB")
        for part in split.files:
            print(f"    {part.path}  {part.rows} rows  {part.bytes / 1e6:.2f} MB")
    print(f"  fingerprint {dataset.fingerprint}")


if __name__ == "__main__":
    raise SystemExit(main())
