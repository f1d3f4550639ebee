"""Whether the files of a prepared data set are those that are described, before anything is computed from them."""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pyarrow as pa
import pyarrow.parquet as pq

from relatif.pipeline.datasets.description import DATASET_JSON, LABEL_COLUMN, DatasetDescription, PartDescription, Split
from relatif.pipeline.datasets.label_column import Allowed, allowed_labels, read_labels
from relatif.pipeline.storage.parquet import COPY_AGAIN, whole_parquet
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError

HASHED_BYTES = 4 * 2**30
"""Largest data set on this machine's disk that is hashed whole when it is opened: some seconds at most.

Of a larger or a remote one, footers are read then, and the checksums of pages when their rows are.
"""

_THREADS = 4
_PIECE = 2**20


def verify_files(store: Store, description: DatasetDescription) -> None:
    """Raise DataError, naming file and row, for a file that is missing or damaged and for a label outside the classes.

    Labels are judged by the statistics in the files' footers, and read only where those tell too little or of a fault.
    """
    parts = [(split, part) for split, described in description.splits.items() for part in described.files]
    for _, part in parts:
        _check_size(store, part)
    if store.is_local and sum(part.bytes for _, part in parts) <= HASHED_BYTES:
        with ThreadPoolExecutor(_THREADS) as pool:
            list(pool.map(lambda each: _check_hash(store, each[1]), parts))
    for split, part, start in _with_starts(description):
        _check_part(store, part, split, description, start)


def _check_size(store: Store, part: PartDescription) -> None:
    size = store.size(part.path)
    if size != part.bytes:
        raise _changed(store, part, f"{part.bytes} bytes", "none" if size is None else f"{size} bytes")


def _check_hash(store: Store, part: PartDescription) -> None:
    hashed = sha256()
    with store.open(part.path) as file:
        while piece := file.read(_PIECE):
            hashed.update(piece)
    if hashed.hexdigest() != part.sha256:
        raise _changed(store, part, f"SHA-256 {part.sha256}", hashed.hexdigest())


def _changed(store: Store, part: PartDescription, expected: str, found: str) -> DataError:
    return DataError(
        f"expected {store.describe(part.path)} with {expected}, as {DATASET_JSON} says, found {found}; {COPY_AGAIN}"
    )


def _with_starts(description: DatasetDescription) -> Iterator[tuple[Split, PartDescription, int]]:
    for split, described in description.splits.items():
        start = 0
        for part in described.files:
            yield split, part, start
            start += part.rows


def _check_part(store: Store, part: PartDescription, split: Split, described: DatasetDescription, start: int) -> None:
    origin, allowed = store.describe(part.path), allowed_labels(described, split)
    columns = dict(stored_columns(described))
    with whole_parquet(store, part.path, COPY_AGAIN) as parquet:
        groups = [parquet.metadata.row_group(number) for number in range(parquet.metadata.num_row_groups)]
        if tuple(group.num_rows for group in groups) != part.row_groups:
            raise _changed(store, part, f"row groups of {part.row_groups} rows", str([g.num_rows for g in groups]))
        found = parquet.schema_arrow
        there = dict(zip(found.names, found.types, strict=True))
        if not set(columns.items()) <= set(there.items()):
            raise _changed(store, part, f"columns {_listed(columns)}", _listed(there))
        for number, group in enumerate(groups if described.target is None else ()):
            if not _surely_allowed(group, found.get_field_index(LABEL_COLUMN), allowed):
                column = parquet.read_row_group(number, columns=[LABEL_COLUMN], use_threads=False).column(0)
                read_labels(column.combine_chunks(), allowed, origin, start)
            start += group.num_rows


def stored_columns(described: DatasetDescription) -> list[tuple[str, pa.DataType]]:
    """Return names and types of the columns that hold examples: inputs, and labels or other targets."""
    target = pa.int32() if described.target is None else described.target.arrow_type
    return [*((each.column, each.arrow_type) for each in described.inputs), (described.target_column, target)]


def _listed(columns: Mapping[str, pa.DataType]) -> str:
    return ", ".join(f"{name} ({kind})" for name, kind in columns.items())


def _surely_allowed(group: pq.RowGroupMetaData, index: int, allowed: Allowed) -> bool:
    """Return whether the footer's statistics show that every label of a row group is allowed."""
    chunk = group.column(index)
    statistics = chunk.statistics
    if chunk.path_in_schema != LABEL_COLUMN or chunk.physical_type != "INT32" or statistics is None:
        return False
    if not statistics.has_min_max or not statistics.has_null_count:
        return False
    in_range = 0 <= statistics.min <= statistics.max <= allowed.highest
    return bool(in_range and (allowed.null or statistics.null_count == 0))
