"""Rows of the table ``scores``: dense influences as they are read off tiles.

Axes: m test inputs, N training examples of a shard.
"""

import pyarrow as pa
from torch import Tensor

from relatif.schemas.tables import SCORES


def scores_batch(values: Tensor, tests: Tensor, train_start: int) -> pa.RecordBatch:
    """Return rows of the table ``scores`` for influences [m, N] of test inputs [m] and consecutive examples."""
    height, width = values.shape
    offsets = pa.array(range(0, (height + 1) * width, width), pa.int32())
    lists = pa.ListArray.from_arrays(
        offsets, pa.array(values.flatten().numpy()), type=SCORES.schema.field("influence").type
    )
    return pa.RecordBatch.from_arrays(
        [pa.array(tests.numpy(), pa.int64()), pa.repeat(pa.scalar(train_start, pa.int64()), height), lists],
        schema=SCORES.schema,
    )
