"""The rows of a table's files, in batches with settled columns: names and types are the same in every file.

Axes: N rows of a batch.
"""

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from relatif.pipeline.datasets.tables import text_files
from relatif.pipeline.datasets.tables.files import CSV, HIVE_NULL, JSON, PARQUET, PICTURE, TableFile
from relatif.pipeline.storage.parquet import FETCH_AGAIN, whole_parquet
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError

BATCH_ROWS, PICTURE_ROWS = 1000, 64

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PICTURE_SCHEMA = pa.schema([("image", IMAGE), ("label", pa.string()), ("path", pa.string())])
"""What a folder of pictures is as a table: the encoded picture, the name of its class, its path."""


@dataclass(frozen=True)
class Table:
    """Files with the same columns. ``schema`` has all of the first file's, those of the folders' names too.

    ``lacking`` are columns that some files of other parts than the training set lack.
    """

    source: Store
    files: tuple[TableFile, ...]
    schema: pa.Schema

    def of(self, part: str | None) -> tuple[TableFile, ...]:
        """Return the files of a part; all where parts are not told by files."""
        return tuple(file for file in self.files if file.part in (part, None))

    def batches(self, file: TableFile, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yield the rows of a file with the chosen columns (default: all), and the number of each batch's first row.

        A column that the file lacks is null. Raises DataError, naming file and row.
        """
        wanted = [self.schema.field(name) for name in (columns or self.schema.names)]
        start = 0
        for batch in _raw(self.source, file, [field.name for field in wanted], self.schema):
            yield start, _with_types(batch, wanted, file, f"{self.describe(file)}, rows from {start} on")
            start += batch.num_rows

    def describe(self, file: TableFile) -> str:
        """Return a file's address for messages."""
        return self.source.describe(file.path)


def open_table(source: Store, files: Sequence[TableFile], may_lack: Sequence[str] = ()) -> Table:
    """Return the table of some files after a look at each of them; texts are read once to settle their types.

    Files of another part than the first file's may lack the columns ``may_lack``. Raises DataError where a file has
    other columns or types than the first, or is damaged.
    """
    schemas = [_schema_of(source, file) for file in files]
    first = reduce(_widened, schemas) if files[0].kind == JSON else schemas[0]
    if files[0].kind == CSV:
        first = _settle_texts(source, files, first)
    for file, schema in zip(files, schemas, strict=True):
        allowed = set(may_lack) if file.part != files[0].part else set()
        _require_columns(source, file, schema, first, allowed)
    keys = sorted({key for file in files for key, _ in file.keys})
    for key in keys:
        values = [dict(file.keys).get(key) for file in files]
        whole = all(value is not None and re.fullmatch(f"0|[1-9][0-9]{{0,16}}|{HIVE_NULL}", value) for value in values)
        if None in values or key in first.names:
            raise DataError(
                f"expected a folder {key}=... above every file of {source.describe()} and no such column inside, found "
                f"one without; lay all files out alike"
            )
        first = first.append(pa.field(key, pa.int64() if whole else pa.string()))
    return Table(source, tuple(files), first)


def _schema_of(source: Store, file: TableFile) -> pa.Schema:
    if file.kind == PARQUET:
        with whole_parquet(source, file.path, FETCH_AGAIN) as parquet:
            return parquet.schema_arrow
    if file.kind == PICTURE:
        return PICTURE_SCHEMA
    if file.kind == CSV:
        return text_files.csv_schema(source, file.path)
    found = pa.schema([])
    for start, rows in text_files.json_blocks(source, file.path):
        origin = f"{source.describe(file.path)}, rows {start} to {start + len(rows) - 1}"
        found = _widened(found, _inferred(rows, origin), origin)
    return found


def _inferred(rows: Sequence[dict[str, Any]], origin: str) -> pa.Schema:
    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return pa.schema([(name, pa.array([row.get(name) for row in rows]).type) for name in names])
    except (pa.ArrowException, OverflowError, UnicodeError) as error:
        raise DataError(
            f"expected values of one type in each column of {origin}, found {' '.join(str(error).split())}; write them "
            f"alike"
        ) from error


def _widened(one: pa.Schema, other: pa.Schema, origin: str = "the table") -> pa.Schema:
    try:
        return pa.unify_schemas([one, other], promote_options="permissive")
    except pa.ArrowException as error:
        raise DataError(
            f"expected values of one type in each column of {origin}, found {' '.join(str(error).split())}; write them "
            f"alike"
        ) from error


def _settle_texts(source: Store, files: Sequence[TableFile], schema: pa.Schema) -> pa.Schema:
    possible = {name: list(text_files.FORMS) for name in schema.names}
    seen = dict.fromkeys(schema.names, False)
    for file in files:
        for block in text_files.csv_blocks(source, file.path):
            for name in set(block.schema.names) & set(schema.names):
                column = block.column(block.schema.get_field_index(name))
                possible[name] = text_files.settled(possible[name], column)
                seen[name] = seen[name] or text_files.has_values(column)
    kinds = {name: possible[name][0] if possible[name] and seen[name] else pa.string() for name in schema.names}
    return pa.schema(list(kinds.items()))


def _require_columns(source: Store, file: TableFile, found: pa.Schema, first: pa.Schema, may_lack: set[str]) -> None:
    lacking = [name for name in first.names if name not in found.names and name not in may_lack]
    if lacking and file.kind != JSON:
        raise DataError(
            f"expected the columns of the table's first file in {source.describe(file.path)}, found no {lacking[0]!r} "
            f"among {', '.join(found.names)}; give files that belong together"
        )
    if file.kind == PARQUET:
        twice = [name for name in found.names if found.names.count(name) > 1]
        if twice:
            raise DataError(
                f"expected a name of its own for each column of {source.describe(file.path)}, found {twice[0]!r} "
                f"{found.names.count(twice[0])} times; rename them"
            )
        for field in first:
            other = found.field(field.name).type if field.name in found.names else field.type
            if kind_of(other) != kind_of(field.type):
                raise DataError(
                    f"expected column {field.name!r} to be {field.type} in {source.describe(file.path)}, as in the "
                    f"table's first file, found {other}; write the files alike"
                )


def kind_of(kind: pa.DataType) -> str:
    """Return what a type's values are: number, truth value, text, image, bytes, list of whole numbers, or the type.

    >>> kind_of(pa.int32()), kind_of(pa.dictionary(pa.int8(), pa.string())), kind_of(pa.date32())
    ('number', 'text', 'date32[day]')
    """
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "truth value"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    if pa.types.is_struct(kind) and {"bytes", "path"} == {field.name for field in kind}:
        return "image"
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    if lists and pa.types.is_integer(kind.value_type):
        return "list of whole numbers"
    return "bytes" if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) else " ".join(str(kind).split())


def _raw(source: Store, file: TableFile, columns: Sequence[str], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    if file.kind == PARQUET:
        with whole_parquet(source, file.path, FETCH_AGAIN) as parquet:
            there = [name for name in columns if name in parquet.schema_arrow.names]
            rows = PICTURE_ROWS if any(kind_of(schema.field(name).type) in ("image", "bytes") for name in there) else 0
            # A batch has its rows also where no column is asked for that lies in the file.
            yield from parquet.iter_batches(rows or BATCH_ROWS, columns=there, use_threads=False)
    elif file.kind == CSV:
        for block in text_files.csv_blocks(source, file.path):
            for start in range(0, block.num_rows, BATCH_ROWS):
                yield block.slice(start, BATCH_ROWS)
    elif file.kind == JSON:
        fields = [schema.field(name) for name in columns if name not in dict(file.keys)]
        for _, objects in text_files.json_blocks(source, file.path):
            yield _json_batch(objects, fields)
    else:
        data = source.read_bytes(file.path) if "image" in columns else b""
        row = {"image": {"bytes": data, "path": posixpath.basename(file.path)}, "path": file.path}
        yield pa.RecordBatch.from_pylist([{**row, "label": file.below[0]}], schema=PICTURE_SCHEMA)


def _json_batch(rows: Sequence[dict[str, Any]], fields: Sequence[pa.Field]) -> pa.RecordBatch:
    arrays = [pa.array([row.get(field.name) for row in rows], field.type) for field in fields]
    if not arrays:
        return pa.RecordBatch.from_pylist([{}] * len(rows), schema=pa.schema([]))
    return pa.RecordBatch.from_arrays(arrays, names=[field.name for field in fields])


def _with_types(batch: pa.RecordBatch, wanted: Sequence[pa.Field], file: TableFile, where: str) -> pa.RecordBatch:
    columns, keys = [], dict(file.keys)
    for field in wanted:
        place = batch.schema.get_field_index(field.name)
        if field.name in keys:
            value = None if keys[field.name] == HIVE_NULL else keys[field.name]
            column = pa.array([value] * batch.num_rows, pa.string()).cast(field.type)
        elif place < 0:
            column = pa.nulls(batch.num_rows, field.type)
        elif file.kind == CSV:
            column = text_files.converted(batch.column(place), field.type)
        else:
            column = batch.column(place)
        columns.append(_cast(column, field, where))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(list(wanted)))


def _cast(column: pa.Array, field: pa.Field, where: str) -> pa.Array:
    try:
        return column if column.type == field.type else pc.cast(column, field.type)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"expected values of column {field.name!r} that are {field.type} in {where}, found "
            f"{' '.join(str(error).split())}; correct them"
        ) from error
