"""Rows of the tables that units of score work leave.

Axes: M test inputs, m of them in a tile, N training examples of a shard, k ranks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.influence.top_k import TopK
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import DataError, NumericalError
from relatif.schemas.tables import SCORES, TOP_K

Columns = Mapping[str, Tensor]


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


def examples_table(spec: TableSpec, columns: Sequence[Columns]) -> pa.Table:
    """Return rows of ``train_examples`` or ``test_examples``; a column that the likelihood lacks is null.

    Raises DataError for a whole number that its column cannot hold.
    """
    names = {field.name: field.name for field in spec.schema} | {spec.schema[0].name: "index"}
    rows = sum(len(part["index"]) for part in columns)
    arrays = []
    for field in spec.schema:
        name = names[field.name]
        if name in columns[0]:
            arrays.append(_stored(field, torch.cat([part[name] for part in columns]).cpu().numpy()))
        else:
            arrays.append(pa.nulls(rows, field.type))
    return pa.Table.from_arrays(arrays, schema=spec.schema)


def top_k_rows(method: str, best: TopK, first_test: int, *, keep: range) -> pa.Table:
    """Return rows of ``top_k`` for the ranks [M, k] whose training index lies in ``keep``, by test and rank."""
    indices, scores = best.indices.cpu(), best.scores.cpu()
    test, rank = torch.nonzero((indices >= keep.start) & (indices < keep.stop)).unbind(1)
    table = pa.table(
        {
            "method": pa.repeat(pa.scalar(method), len(test)),
            "test_index": (test + first_test).numpy(),
            "rank": (rank + 1).int().numpy(),
            "train_index": indices[test, rank].numpy(),
            "score": scores[test, rank].numpy(),
            "train_id": pa.nulls(len(test), pa.string()),
        },
        schema=TOP_K.schema,
    )
    _require_finite(f"the scores by {method}", table["score"].combine_chunks())
    return table


def _stored(field: pa.Field, values: NDArray[Any]) -> pa.Array:
    """Return values in the type of their column: real numbers rounded, whole numbers as they are, no label as null."""
    try:
        if pa.types.is_list(field.type):
            return _lists(field, values)
        whole = pa.types.is_integer(field.type)
        mask = values == UNLABELLED if whole and field.nullable else None
        stored = pa.array(values, mask=mask).cast(field.type, safe=whole)
    except pa.ArrowInvalid as error:
        raise DataError(
            f"expected values of {field.name} that fit {field.type}, found others ({error}); look at the data's labels "
            f"and at what the task's likelihood predicts"
        ) from error
    _require_finite(field.name, stored)
    return stored


def _lists(field: pa.Field, values: NDArray[Any]) -> pa.Array:
    """Return rows [N, D] as lists; a number that is left out, NaN, is null."""
    rows, width = values.shape
    flat = pa.array(values.reshape(-1), pa.float64(), from_pandas=True)
    offsets = pa.array(np.arange(rows + 1) * width, pa.int32())
    return pa.ListArray.from_arrays(offsets, flat, type=field.type)


def _require_finite(name: str, values: pa.Array) -> None:
    """Raise NumericalError for a score or norm that is no number, or more than its column holds."""
    if pa.types.is_floating(values.type) and not (finite := np.isfinite(values.to_numpy(zero_copy_only=False))).all():
        raise NumericalError(
            f"expected finite values of {name}, found {values[int((~finite).argmax())]} in place {(~finite).argmax()} "
            f"of {len(values)}; look at the damping, the model's outputs and the scale of the data"
        )
