"""Tables as directories of Parquet files: written row group by row group, read back whole or in batches."""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from relatif.pipeline.storage.manifests import verified_bytes
from relatif.pipeline.storage.publication import Publication
from relatif.pipeline.storage.store import Store
from relatif.schemas.columns import METADATA_PREFIX, TableSpec
from relatif.schemas.errors import DataError, MissingStageError, StorageError
from relatif.schemas.manifest import FileReceipt

ROW_GROUP_ROWS = 65_536
"""Default limit of a row group: some megabytes for the narrow tables."""

COMPRESSION_LEVEL = 3
"""Default level of Zstandard: faster than a disk."""

PARQUET = ".parquet"

COPY_AGAIN = "copy the file again or prepare the data set again"
"""What to do about a damaged file of a prepared data set."""

FETCH_AGAIN = "fetch the file again"
"""What to do about a damaged file of a user's source."""


class TableWriter:
    """Context manager that publishes one Parquet file of a table.

    Each ``write`` makes row groups of its own, so that memory stays bounded by what is written at once. After the
    block ``receipt`` describes the published file; after an exception nothing is published.
    """

    def __init__(
        self,
        store: Store,
        path: str,
        spec: TableSpec,
        metadata: Mapping[str, str],
        *,
        row_group_rows: int = ROW_GROUP_ROWS,
        compression_level: int = COMPRESSION_LEVEL,
    ) -> None:
        self._store, self._path, self._spec = store, path, spec
        self._schema = spec.with_metadata(metadata)
        self._row_group_rows, self._compression_level = row_group_rows, compression_level
        self._stack = ExitStack()
        self._rows = 0
        self._publication: Publication
        self._writer: pq.ParquetWriter

    def __enter__(self) -> "TableWriter":
        with ExitStack() as stack:
            self._publication = stack.enter_context(self._store.publish(self._path))
            options = _writer_options(self._schema, self._compression_level)
            self._writer = stack.enter_context(pq.ParquetWriter(self._publication.file, self._schema, **options))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def write(self, rows: pa.Table | pa.RecordBatch) -> None:
        """Append rows; DataError where their columns are not the table's or a value does not fit."""
        table = pa.Table.from_batches([rows]) if isinstance(rows, pa.RecordBatch) else rows
        self._writer.write_table(_conform(table, self._spec), row_group_size=self._row_group_rows)
        self._rows += table.num_rows

    @property
    def receipt(self) -> FileReceipt:
        """What was published, with its number of rows; StorageError inside the block."""
        return self._publication.receipt.model_copy(update={"rows": self._rows})


def write_table(store: Store, path: str, table: pa.Table, spec: TableSpec, metadata: Mapping[str, str]) -> FileReceipt:
    """Publish one Parquet file of a table."""
    with TableWriter(store, path, spec, metadata) as writer:
        writer.write(table)
    return writer.receipt


def read_table(store: Store, directory: str, columns: Sequence[str] | None = None) -> pa.Table:
    """Return all rows of a table's finished files, in the order of the files' names.

    Raises MissingStageError where there is no finished file, DataError for an unknown column, StorageError for damage.
    """
    parts = []
    for path in _finished_files(store, directory):
        with _opened(store, path, columns) as file:
            # Not on Arrow's threads: one that still drops the file's last page while Python exits aborts the process.
            parts.append(file.read(columns=_listed(columns), use_threads=False))
    return pa.concat_tables(parts)


def iter_batches(
    store: Store, directory: str, columns: Sequence[str] | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Yield a table's rows in batches of at most ``batch_rows``, holding about one row group at a time.

    Raises as ``read_table`` does.
    """
    for path in _finished_files(store, directory):
        yield from iter_file(store, path, columns, batch_rows)


def iter_file(
    store: Store, path: str, columns: Sequence[str] | None = None, batch_rows: int = 65_536
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of one Parquet file in batches; raises as ``read_table`` does."""
    with _opened(store, path, columns) as file:
        yield from file.iter_batches(batch_size=batch_rows, columns=_listed(columns), use_threads=False)


def iter_written(store: Store, receipt: FileReceipt) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the very Parquet file that a receipt names; StorageError where it is missing or another.

    It is read whole: for the small parts that a stage leaves to be joined.
    """
    with _parquet(store, receipt.path, io.BytesIO(verified_bytes(store, receipt)), None) as file:
        yield from file.iter_batches(use_threads=False)


def table_metadata(store: Store, directory: str) -> dict[str, str]:
    """Return the metadata of a table's first finished file, without the project's prefix."""
    with _opened(store, _finished_files(store, directory)[0], None) as file:
        entries = (file.schema_arrow.metadata or {}).items()
    decoded = ((key.decode(), value.decode()) for key, value in entries)
    return {key.removeprefix(METADATA_PREFIX): value for key, value in decoded if key.startswith(METADATA_PREFIX)}


def _finished_files(store: Store, directory: str) -> list[str]:
    paths = store.list(directory, PARQUET)
    if not paths:
        raise MissingStageError(
            f"expected Parquet files in {store.describe(directory)}, found none; run the stage that writes them first"
        )
    return paths


def _listed(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)


@contextmanager
def _opened(store: Store, path: str, columns: Sequence[str] | None) -> Iterator[pq.ParquetFile]:
    with store.open(path) as file, _parquet(store, path, file, columns) as parquet:
        yield parquet


@contextmanager
def _parquet(store: Store, path: str, file: BinaryIO, columns: Sequence[str] | None) -> Iterator[pq.ParquetFile]:
    try:
        # Not read ahead: a thread of Arrow's that frees a file's bytes while Python exits aborts the process.
        with pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False) as parquet:
            _require_columns(store, path, parquet.schema_arrow.names, columns)
            yield parquet
    except (pa.ArrowException, OSError) as error:
        raise unreadable(store, path, error) from error


def unreadable(store: Store, path: str, error: Exception) -> StorageError:
    """Return the error of a Parquet file that can't be read: refused by the storage, or damaged."""
    if is_refusal(error):
        return StorageError(
            f"expected to read {store.describe(path)}, found {type(error).__name__}: {error}; check credentials, "
            f"rights and the connection"
        )
    return StorageError(
        f"expected a whole Parquet file at {store.describe(path)}, found {error}; "
        f"delete it and repeat the stage that writes it"
    )


@contextmanager
def whole_parquet(store: Store, path: str, to_do: str, **options: Any) -> Iterator[pq.ParquetFile]:
    """Open a user's Parquet file, whose pages are verified; ``options`` are those of ``pq.ParquetFile``.

    Raises DataError, which says what ``to_do``, where it is not whole or not there, and StorageError where the storage
    refuses it.
    """
    try:
        with store.open(path) as file, pq.ParquetFile(file, page_checksum_verification=True, **options) as parquet:
            yield parquet
    except (pa.ArrowException, StorageError, OSError, OverflowError, ValueError, IndexError) as error:
        if is_refusal(error):
            raise unreadable(store, path, error) from error
        raise DataError(
            f"expected a whole Parquet file at {store.describe(path)}, found {' '.join(str(error).split())}; {to_do}"
        ) from error


def is_refusal(error: Exception) -> bool:
    """Return whether an error is the storage's, of rights or of the connection, and says nothing of a file's bytes."""
    if isinstance(error, StorageError):
        return not isinstance(error.__cause__, FileNotFoundError)
    # Arrow's own errors about bytes are OSErrors too, but carry no number of the system's.
    refusal = isinstance(error, OSError) and (error.errno is not None or isinstance(error, PermissionError))
    return refusal or isinstance(error, ConnectionError | TimeoutError)


def _require_columns(store: Store, path: str, found: list[str], wanted: Sequence[str] | None) -> None:
    missing = [name for name in wanted or () if name not in found]
    if missing:
        raise DataError(
            f"expected column(s) {', '.join(missing)} in {store.describe(path)}, found {', '.join(found)}; "
            f"ask for those or write the table anew"
        )


def _conform(table: pa.Table, spec: TableSpec) -> pa.Table:
    if table.schema.names != spec.schema.names:
        raise DataError(
            f"expected the columns {', '.join(spec.schema.names)} for table {spec.name}, "
            f"found {', '.join(table.schema.names)}; give exactly those, in that order"
        )
    for field, column in zip(spec.schema, table.columns, strict=True):
        if not field.nullable and column.null_count:
            raise DataError(
                f"expected a value in every row of {spec.name}.{field.name}, found {column.null_count} null(s); "
                f"look at what computes them"
            )
    try:
        return table.cast(spec.schema)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"expected rows that fit the schema of table {spec.name}, found {error}; look at what computes them"
        ) from error


def _writer_options(schema: pa.Schema, level: int) -> dict[str, Any]:
    # Lists of floats stay uncompressed: mantissas are noise, so Zstandard would save 7% and double the time.
    squeezed = [_leaf(field) for field in schema if not _is_float_list(field.type)]
    narrow = [leaf for leaf, field in zip(map(_leaf, schema), schema, strict=True) if not _is_wide(field.type)]
    return {
        "compression": {leaf: "zstd" if leaf in squeezed else "none" for leaf in map(_leaf, schema)},
        "compression_level": dict.fromkeys(squeezed, level),
        "use_dictionary": [field.name for field in schema if pa.types.is_string(field.type)],
        "write_statistics": narrow,
        "write_page_checksum": True,
    }


def _is_float_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) and pa.types.is_floating(kind.value_type))


def _is_wide(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or pa.types.is_fixed_size_binary(kind))


def _leaf(field: pa.Field) -> str:
    return f"{field.name}.list.element" if pa.types.is_list(field.type) else str(field.name)
