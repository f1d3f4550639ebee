"""Turn published data files into Parquet shards: ``python -m jobs.prepare mnist --source FOLDER --out FOLDER``."""

import argparse
import sys
from collections.abc import Sequence

from relatif.pipeline.datasets.published import FORMATS, prepare
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import RelatifError


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare a data set and print what is there; exit status 0, 1 for an error, 2 for wrong usage."""
    arguments = _parser().parse_args(argv)
    try:
        out = open_store(arguments.out)
        dataset = prepare(open_store(arguments.source), out, arguments.format)
    except RelatifError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    _print_summary(out, dataset)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="relatif prepare", description="Turn published data into Parquet shards.")
    known = "; ".join(f"{name}: {published.meaning}" for name, published in FORMATS.items())
    parser.add_argument("format", choices=sorted(FORMATS), help=known)
    parser.add_argument("--source", required=True, help="folder or fsspec URL of the published files")
    parser.add_argument("--out", required=True, help="folder or fsspec URL for the prepared data set")
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
