"""Joining the parts that score units left into the tables; memory stays bounded by one part and one block of ranks.

Axes: M test inputs of a block, k ranks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.datasets.ids import Names, RowIds
from relatif.pipeline.influence.top_k import TopK, empty_top_k, insert_pairs
from relatif.pipeline.runs.chosen_tests import rows_at
from relatif.pipeline.storage.parquet import TableWriter, iter_written
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.manifest import FileReceipt
from relatif.schemas.tables import TOP_K

ROWS_AT_ONCE = 1024
"""Test inputs whose ranks are formed into table rows at once."""


@dataclass(frozen=True)
class BlockExtent:
    """A query block: its number, and its test rows from ``start`` to ``stop``.

    ``rows`` are the chosen rows of the test part, among which these are positions; None: all. ``parts`` are the
    candidates that its units left, in their order.
    """

    number: int
    start: int
    stop: int
    parts: tuple[FileReceipt, ...] = ()
    rows: tuple[int, ...] | None = None


def join_top_k(
    store: Store,
    block: BlockExtent,
    k: int,
    methods: Sequence[str],
    metadata: Mapping[str, str],
    ids: RowIds | None = None,
) -> FileReceipt:
    """Merge the candidates of a block's units and write its part of ``top_k``, by test input, method and rank.

    ``ids`` are those of the training examples.

    Raises StorageError where a unit's file is not the one that its proof names.
    """
    best = {method: empty_top_k(block.stop - block.start, k) for method in methods}
    for part in block.parts:
        for batch in iter_written(store, part):
            _merge(best, batch, block.start)
    # At once: the explanations of any few test inputs name rows of all files.
    every = np.concatenate([top_k.indices.flatten().numpy() for top_k in best.values()])
    names = None if ids is None else ids.read(every)
    with TableWriter(store, run_directory.table_part(TOP_K.name, block.number), TOP_K, metadata) as writer:
        for start in range(0, block.stop - block.start, ROWS_AT_ONCE):
            writer.write(_rows(best, start, block, names))
    return writer.receipt


def join_examples(
    store: Store,
    parts: Sequence[FileReceipt],
    target: str,
    spec: TableSpec,
    metadata: Mapping[str, str],
    ids: RowIds | None = None,
) -> FileReceipt:
    """Copy parts, in order, into one file of a table, with the identifiers of its rows in the last column.

    Raises StorageError where one is not the file that its proof names.
    """
    with TableWriter(store, target, spec, metadata) as writer:
        for part in parts:
            for batch in iter_written(store, part):
                named = None if ids is None else ids.of(batch.column(0).to_numpy())
                last = len(spec.schema) - 1
                writer.write(batch if named is None else batch.set_column(last, spec.schema.field(last), named))
    return writer.receipt


def _merge(best: Mapping[str, TopK], batch: pa.RecordBatch, first_test: int) -> None:
    methods = batch.column("method").to_numpy(zero_copy_only=False)
    columns = {name: batch.column(name).to_numpy() for name in ("test_index", "train_index", "score")}
    for method, top_k in best.items():
        (place,) = np.nonzero(methods == method)
        # Parts are written by method and test input, so test rows rise, as insert_pairs wants them.
        test, train, score = (_tensor(columns[name][place]) for name in ("test_index", "train_index", "score"))
        insert_pairs(top_k, test - first_test, score, train)


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values))


def _rows(best: Mapping[str, TopK], start: int, block: BlockExtent, names: Names | None) -> pa.Table:
    methods = list(best)
    parts = [top_k.rows(slice(start, start + ROWS_AT_ONCE)) for top_k in best.values()]
    height, k = parts[0].scores.shape
    tests = rows_at(block.rows, torch.arange(start, start + height) + block.start).numpy()
    trains = torch.stack([part.indices for part in parts], dim=1).flatten().numpy()
    return pa.table(
        {
            "method": np.tile(np.repeat(np.array(methods, dtype=object), k), height),
            "test_index": np.repeat(tests, len(methods) * k),
            "rank": np.tile(np.arange(1, k + 1, dtype=np.int32), height * len(methods)),
            "train_index": trains,
            "score": torch.stack([part.scores for part in parts], dim=1).flatten().numpy(),
            "train_id": pa.nulls(len(trains), pa.string()) if names is None else names.of(trains),
        },
        schema=TOP_K.schema,
    )
