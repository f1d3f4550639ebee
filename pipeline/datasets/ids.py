"""The user's own identifiers of rows, read from the data where tables name rows by their numbers.

Axes: R rows that are named, in any order and more than once; W different rows, rising.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.shards import PreparedDataset, read_shard_ids
from relatif.pipeline.storage.store import Store

ROWS_AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class Names:
    """The identifiers of some rows, which rise, [W]; null where the data has none."""

    rows: NDArray[np.int64]
    names: pa.Array

    def of(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return the identifiers of rows [R] that are among them."""
        return self.names.take(pa.array(np.searchsorted(self.rows, rows), pa.int64()))


@dataclass(frozen=True)
class RowIds:
    """Where the identifiers of a part of the data lie; it holds none of them, so it is cheap to send."""

    data: Store
    dataset: PreparedDataset
    part: str

    def read(self, rows: NDArray[np.int64]) -> Names:
        """Return the identifiers of rows [R], each file read once; raises as ``read_shard``."""
        wanted = np.unique(rows)
        if self.dataset.description.id_column is None or not len(wanted):
            return Names(wanted, pa.nulls(len(wanted), pa.string()))
        found: list[pa.Array] = []
        for shard in self.dataset.shards(self.part, rows=ROWS_AT_ONCE):
            here = slice(*np.searchsorted(wanted, [shard.start, shard.stop]))
            if here.start < here.stop:
                ids = pa.array(read_shard_ids(self.data, self.dataset, shard), pa.string())
                found.append(ids.take(pa.array(wanted[here] - shard.start)))
        return Names(wanted, pa.concat_arrays(found))

    def of(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return the identifiers of rows [R], null where the data has none; raises as ``read_shard``."""
        return self.read(rows).of(rows)
