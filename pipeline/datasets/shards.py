"""Prepared data sets and their shards: contiguous ranges of rows made of whole row groups.

Axes: N examples of a shard; the rest is the input's shape.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import (
    LABEL_COLUMN,
    DatasetDescription,
    InputDescription,
    Split,
    read_description,
)
from relatif.pipeline.datasets.label_column import UNLABELLED, allowed_labels, read_labels
from relatif.pipeline.datasets.labels import PUBLISHED, Labelling
from relatif.pipeline.datasets.verifying import verify_files
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.storage.parquet import is_refusal, unreadable
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError, DataError, StorageError


@dataclass(frozen=True)
class ShardPiece:
    """The first ``rows`` rows of a row group."""

    file: str
    row_group: int
    rows: int


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` (exclusive) of a split, the ``index``-th shard of it."""

    split: Split
    index: int
    start: int
    stop: int
    pieces: tuple[ShardPiece, ...]

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return self.stop - self.start


@dataclass(frozen=True, eq=False)
class StoredExamples:
    """Rows from ``start`` on: inputs [N, *shape], of the types that the data set says, and labels int64 [N].

    ``labels`` are the targets, whatever they are.
    """

    inputs: Inputs
    labels: torch.Tensor
    start: int

    @property
    def targets(self) -> torch.Tensor:
        """Return the targets: ``labels`` by the name that fits those that are no classes."""
        return self.labels


@dataclass(frozen=True)
class PreparedDataset:
    """A data set whose files exist, and its labelling; it holds no rows and no address, so it is cheap to send."""

    description: DatasetDescription
    labelling: Labelling = PUBLISHED

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.description.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.description.input.shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label after merging."""
        return self.labelling.class_names(self.description.class_names)

    def class_name(self, label: int | None) -> str:
        """Return the name of a class; a model of the published classes may also predict one that merging left empty.

        Labels of data without classes are counts, which are their own names. A test input may have no label.
        """
        if label is None or label == UNLABELLED:
            return "no label"
        if not self.class_names:
            return str(label)
        return self.class_names[label] if label < len(self.class_names) else f"no class ({label})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the content and its row groups, the same at every address."""
        return self.description.fingerprint

    def rows(self, split: Split) -> int:
        """Number of rows of a split; DataError where the data set has no such split."""
        if split not in self.description.splits:
            raise DataError(
                f"expected a split {split!r} in data set {self.name}, found {', '.join(self.description.splits)}; "
                f"prepare the data set with it"
            )
        return self.description.splits[split].rows

    def shards(self, split: Split, *, rows: int, limit: int | None = None) -> tuple[Shard, ...]:
        """Cut the first ``limit`` rows (default: all) into shards.

        Each is the longest run of whole row groups of at most ``rows`` rows, and at least one row group; ``limit``
        shortens the last one and moves no border. Raises ConfigurationError for a limit beyond the split.
        """
        available = self.rows(split)
        stop = available if limit is None else limit
        if rows < 1 or not 1 <= stop <= available:
            raise ConfigurationError(
                f"expected a limit from 1 to the {available} rows of {self.name}/{split} and shards of at least 1 row, "
                f"found limit {stop} and {rows} rows; set them within these bounds or drop them"
            )
        runs = _runs(self._row_groups(split), rows)
        shards: list[Shard] = []
        start = 0
        for run in runs:
            if start >= stop:
                break
            shards.append(_shard(split, len(shards), start, run, stop))
            start = shards[-1].stop
        return tuple(shards)

    def _row_groups(self, split: Split) -> Iterator[ShardPiece]:
        for part in self.description.splits[split].files:
            for row_group, count in enumerate(part.row_groups):
                yield ShardPiece(part.path, row_group, count)


def open_dataset(store: Store) -> PreparedDataset:
    """Return the prepared data set at ``store``.

    Raises DataError where ``dataset.json`` is missing or damaged, and what ``verify_files`` raises.
    """
    description = read_description(store)
    verify_files(store, description)
    return PreparedDataset(description)


def read_shard(store: Store, dataset: PreparedDataset, shard: Shard) -> StoredExamples:
    """Read a shard's rows, verifying the checksum of every page; labels are those of the data set's labelling.

    A test input without a label has UNLABELLED. Raises DataError, naming the file, where it is damaged or not the one
    that was described, and naming the row too for a label outside the classes or a value that is not finite.
    """
    described = dataset.description.input
    inputs = torch.empty((shard.rows, math.prod(described.shape)), dtype=getattr(torch, described.dtype))
    labels = torch.empty(shard.rows, dtype=torch.int64)
    row = 0
    columns = [(described.column, pa.binary(described.row_bytes)), (LABEL_COLUMN, pa.int32())]
    allowed = allowed_labels(dataset.description, shard.split)
    for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file):
        for batch in _read_pieces(store, path, tuple(pieces), columns).to_batches():
            stop = row + batch.num_rows
            # Copied once: Arrow's own memory is read-only, which torch can't express.
            inputs[row:stop].numpy()[:] = _values(batch.column(0), described)
            origin = f"{store.describe(path)} (rows as in {shard.split})"
            labels[row:stop].numpy()[:] = read_labels(batch.column(1), allowed, origin, shard.start + row)
            _require_finite(inputs[row:stop], origin, shard.start + row)
            row = stop
    seen = dataset.labelling.seen(labels, shard.split, first_row=shard.start, class_count=len(dataset.class_names))
    return StoredExamples(inputs.reshape(shard.rows, *dataset.input_shape), seen, shard.start)


def read_published_labels(store: Store, shard: Shard) -> torch.Tensor:
    """Return a shard's labels as the data gives them, not merged or flipped, int64 [N]; raises as ``read_shard``."""
    labels = [
        _read_pieces(store, path, tuple(pieces), [(LABEL_COLUMN, pa.int32())])[LABEL_COLUMN]
        .fill_null(UNLABELLED)
        .to_numpy()
        for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file)
    ]
    return torch.from_numpy(np.concatenate(labels).astype(np.int64))


def read_shard_texts(store: Store, dataset: PreparedDataset, shard: Shard) -> list[str]:
    """Return the texts of a shard's inputs, before they were encoded.

    Raises DataError where the data set has no texts, or a file is damaged or not the one that was described.
    """
    column = dataset.description.input.text_column
    if column is None:
        raise DataError(
            f"expected a column of texts in data set {dataset.name} at {store.describe()}, found none described; "
            f"prepare the data set with one"
        )
    texts: list[str] = []
    for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file):
        texts += _read_pieces(store, path, tuple(pieces), [(column, pa.string())])[column].to_pylist()
    return texts


def _runs(groups: Iterator[ShardPiece], rows: int) -> Iterator[list[ShardPiece]]:
    run: list[ShardPiece] = []
    held = 0
    for group in groups:
        if run and held + group.rows > rows:
            yield run
            run, held = [], 0
        run.append(group)
        held += group.rows
    yield run


def _shard(split: Split, index: int, start: int, run: list[ShardPiece], limit: int) -> Shard:
    pieces: list[ShardPiece] = []
    stop = start
    for piece in run:
        if stop < limit:
            pieces.append(ShardPiece(piece.file, piece.row_group, min(piece.rows, limit - stop)))
            stop += pieces[-1].rows
    return Shard(split, index, start, stop, tuple(pieces))


def _read_pieces(
    store: Store, path: str, pieces: tuple[ShardPiece, ...], wanted: list[tuple[str, pa.DataType]]
) -> pa.Table:
    rows = sum(piece.rows for piece in pieces)
    try:
        with (
            store.open(path) as file,
            pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=True) as parquet,
        ):
            groups = [piece.row_group for piece in pieces]
            table = parquet.read_row_groups(groups, columns=[name for name, _ in wanted], use_threads=False)
    except (pa.ArrowException, StorageError, OSError, OverflowError, ValueError, IndexError) as error:
        if is_refusal(error):
            raise unreadable(store, path, error) from error
        raise DataError(
            f"expected a whole Parquet file at {store.describe(path)}, found {error}; "
            f"copy the file again or prepare the data set again"
        ) from error
    found = [(field.name, field.type) for field in table.schema]
    if found != wanted or table.num_rows < rows:
        raise DataError(
            f"expected {rows} rows of {wanted} in {store.describe(path)}, found {table.num_rows} of {found}; "
            f"prepare the data set again"
        )
    return table.slice(0, rows)


def _require_finite(values: torch.Tensor, origin: str, first_row: int) -> None:
    """Raise DataError, naming the row, for a stored value that is not finite."""
    if values.is_floating_point() and not bool((finite := values.isfinite().all(dim=1)).all()):
        row = int((~finite).nonzero()[0])
        raise DataError(
            f"expected finite values in {origin}, found {float(values[row][~values[row].isfinite()][0])} in row "
            f"{first_row + row}; correct the value or drop the row"
        )


def _values(column: pa.FixedSizeBinaryArray, described: InputDescription) -> NDArray[Any]:
    count, start = len(column) * math.prod(described.shape), column.offset * described.row_bytes
    return np.frombuffer(column.buffers()[1], described.stored, count, start).reshape(len(column), -1)
