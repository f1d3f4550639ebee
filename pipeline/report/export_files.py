"""Rows as a CSV, JSON Lines or Parquet file, written batch by batch."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from relatif.pipeline.report.exporting import Exported
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError, DataError

Write = Callable[[pa.RecordBatch], None]


def write_rows(store: Store, name: str, rows: Exported) -> int:
    """Publish a file whose format the end of its name tells, and return how many rows it has.

    The file appears whole or not at all. Lists are JSON texts in CSV. Raises ConfigurationError for another end.
    """
    opened = FORMATS[format_of(name)]
    count = 0
    with store.publish(name) as publication, opened(publication.file, rows.schema) as write:
        for batch in rows.batches:
            write(batch)
            count += batch.num_rows
    return count


def format_of(name: str) -> str:
    """Return the format that a file's name ends in; ConfigurationError for another."""
    end = name.rpartition(".")[2].lower()
    if "." not in name or end not in FORMATS:
        raise ConfigurationError(
            f"expected a file whose name ends in {', '.join(f'.{each}' for each in FORMATS)}, found {name!r}; name "
            f"one of these"
        )
    return end


@contextmanager
def _parquet(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        yield writer.write_batch


@contextmanager
def _csv(file: BinaryIO, schema: pa.Schema) -> Iterator[Write]:
    with csv.CSVWriter(file, _flat(schema.empty_table()).schema) as writer:
        yield lambda batch: writer.write_table(_flat(pa.Table.from_batches([batch])))


@contextmanager
def _json_lines(file: BinaryIO, _: pa.Schema) -> Iterator[Write]:
    def write(batch: pa.RecordBatch) -> None:
        file.write("".join(f"{_json(row)}\n" for row in batch.to_pylist()).encode())

    yield write


FORMATS = {"csv": _csv, "jsonl": _json_lines, "parquet": _parquet}
"""How a file is written, by the end of its name."""


def _flat(rows: pa.Table) -> pa.Table:
    """Return rows with JSON texts in place of lists."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_list(field.type):
            texts = [None if value is None else _json(value) for value in rows[field.name].to_pylist()]
            rows = rows.set_column(place, field.with_type(pa.string()), pa.array(texts, pa.string()))
    return rows


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise DataError(
            "expected finite numbers, which alone JSON can hold, found another; export as Parquet"
        ) from error
