"""Columns of a prepared data set's files, read with the checksum of every page.

Axes: N rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import InputDescription, ValuesDescription
from relatif.pipeline.storage.parquet import COPY_AGAIN, whole_parquet
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError


@dataclass(frozen=True)
class ShardPiece:
    """The first ``rows`` rows of a row group."""

    file: str
    row_group: int
    rows: int


def read_pieces(
    store: Store, path: str, pieces: tuple[ShardPiece, ...], wanted: list[tuple[str, pa.DataType]]
) -> pa.Table:
    """Return the columns ``wanted`` of the first rows of row groups of a file, pages verified; DataError for damage."""
    rows = sum(piece.rows for piece in pieces)
    with whole_parquet(store, path, COPY_AGAIN, pre_buffer=True) as parquet:
        groups = [piece.row_group for piece in pieces]
        table = parquet.read_row_groups(groups, columns=[name for name, _ in wanted], use_threads=False)
    found = [(field.name, field.type) for field in table.schema]
    if found != wanted or table.num_rows < rows:
        raise DataError(
            f"expected {rows} rows of {wanted} in {store.describe(path)}, found {table.num_rows} of {found}; "
            f"prepare the data set again"
        )
    return table.slice(0, rows)


def room(rows: int, described: ValuesDescription | None) -> torch.Tensor:
    """Return room for values of so many rows, [N, *shape]; for labels int64 [N] where nothing is described."""
    if described is None:
        return torch.empty(rows, dtype=torch.int64)
    return torch.empty((rows, *described.shape), dtype=getattr(torch, described.dtype))


def fill(into: torch.Tensor, column: pa.Array, described: ValuesDescription, origin: str, first_row: int) -> None:
    """Copy values of a column into ``into`` [N, *shape]; DataError, naming the row, for one that is not finite."""
    # Copied once: Arrow's own memory is read-only, which torch can't express.
    flat = into.view(len(into), -1)
    flat.numpy()[:] = _values(column, described)
    _require_finite(flat, origin, first_row)


def read_as(described: InputDescription, values: torch.Tensor) -> torch.Tensor:
    """Return inputs as they are stored, or normalized where the description says by what."""
    if described.mean is None or described.std is None:
        return values
    # In place: a shard of images is held once.
    mean, std = (
        torch.tensor(each).reshape(-1, *(1 for _ in described.shape[1:])) for each in (described.mean, described.std)
    )
    return values.float().div_(255).sub_(mean).div_(std)


def _require_finite(values: torch.Tensor, origin: str, first_row: int) -> None:
    """Raise DataError, naming the row, for a stored value that is not finite."""
    if values.is_floating_point() and not bool((finite := values.isfinite().all(dim=1)).all()):
        row = int((~finite).nonzero()[0])
        raise DataError(
            f"expected finite values in {origin}, found {float(values[row][~values[row].isfinite()][0])} in row "
            f"{first_row + row}; correct the value or drop the row"
        )


def _values(column: pa.FixedSizeBinaryArray, described: ValuesDescription) -> NDArray[Any]:
    count, start = len(column) * described.numbers, column.offset * described.row_bytes
    return np.frombuffer(column.buffers()[1], described.stored, count, start).reshape(len(column), -1)
