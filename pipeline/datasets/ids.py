"""The user's own identifiers of rows, read from the data where tables name rows by their numbers.

Axes: R rows that are named, in any order and more than once.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.shards import PreparedDataset, read_shard_ids
from relatif.pipeline.storage.store import Store

ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class RowIds:
    """Where the identifiers of a part of the data lie; it holds none of them, so it is cheap to send."""

    data: Store
    dataset: PreparedDataset
    part: str

    def of(self, rows: NDArray[np.int64]) -> pa.Array:
        """Return the identifiers of rows [R], null where the data has none; raises as ``read_shard``."""
        if self.dataset.description.id_column is None:
            return pa.nulls(len(rows), pa.string())
        wanted, places = np.unique(rows, return_inverse=True)
        found = np.empty(len(wanted), object)
        for shard in self.dataset.shards(self.part, rows=ROWS_AT_ONCE) if len(wanted) else ():
            here = slice(*np.searchsorted(wanted, [shard.start, shard.stop]))
            if here.start < here.stop:
                ids = np.array(read_shard_ids(self.data, self.dataset, shard), object)
                found[here] = ids[wanted[here] - shard.start]
        return pa.array(found[places], pa.string())
