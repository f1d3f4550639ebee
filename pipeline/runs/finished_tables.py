"""Reading finished tables: columns as tensors, rows by index, and the methods that a table holds.

Axes: N training examples, M test inputs.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from relatif.pipeline.storage.parquet import iter_batches
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError, DataError
from relatif.schemas.methods import in_order
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

_LOWEST = {"rank": 1}
_NONE = -1


def table_methods(tables: Store, table: str = TOP_K.name) -> tuple[str, ...]:
    """Return the methods that a table holds, in the order of METHODS; DataError for an unknown one or no row."""
    found: set[str] = set()
    for batch in iter_batches(tables, table, ["method"]):
        found |= set(pc.unique(batch.column("method")).to_pylist())
    try:
        methods = in_order(found)
    except ConfigurationError as error:
        raise DataError(f"{error} in {tables.describe(table)}, or remove rows that are not of this run") from error
    if not methods:
        raise DataError(
            f"expected explanations in {tables.describe(table)}, found no row; "
            f"run the score stage with at least one test input"
        )
    return methods


def tensor_batches(
    tables: Store, table: str, columns: Sequence[str], *, methods: Sequence[str] = ()
) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of a table's columns as tensors: methods by their place in ``methods``, indices as int64."""
    address = tables.describe(table)
    for batch in iter_batches(tables, table, columns):
        yield tuple(_column(address, name, batch.column(name), methods) for name in columns)


def column_by_row(tables: Store, table: str, index: str, columns: Sequence[str]) -> list[Tensor]:
    """Return columns of a table in the order of its index. Raises DataError unless each row, from 0, stands once."""
    parts = list(tensor_batches(tables, table, [index, *columns]))
    if not parts:
        raise DataError(f"expected rows in {tables.describe(table)}, found none; run the score stage again")
    rows, *values = (torch.cat(each) for each in zip(*parts, strict=True))
    order = rows.argsort()
    if not torch.equal(rows[order], torch.arange(len(rows))):
        raise DataError(
            f"expected each {index} from 0 once in {tables.describe(table)}, found {len(rows)} rows for "
            f"{len(rows.unique())} of them up to {int(rows.max())}; remove files that are not of this run"
        )
    return [each[order] for each in values]


def first_examples(tables: Store, methods: Sequence[str], *, training: int, tests: int) -> Tensor:
    """Return the training example of rank 1 for every method and test input, [methods, M] int64.

    Raises DataError, naming the table, where one is missing, stands twice, or is of an example beyond the counts.
    """
    first = torch.full((len(methods), tests), _NONE)
    count = 0
    columns = ["method", "test_index", "rank", "train_index"]
    for method, test, rank, train in tensor_batches(tables, TOP_K.name, columns, methods=methods):
        best = rank == 1
        _require_rows(tables, TEST_EXAMPLES.name, test, tests)
        _require_rows(tables, TRAIN_EXAMPLES.name, train, training)
        first[method[best], test[best]] = train[best]
        count += int(best.sum())
    missing = (first == _NONE).nonzero()
    if len(missing):
        method_number, row = missing[0].tolist()
        raise DataError(
            f"expected a row of rank 1 for every method and test input in {tables.describe(TOP_K.name)}, found none "
            f"for {methods[method_number]} of test_index {row}; run the score stage again"
        )
    if count != first.numel():
        raise DataError(
            f"expected one row of rank 1 for each method and test_index in {tables.describe(TOP_K.name)}, found "
            f"{count - first.numel()} row(s) too many; remove files that are not of this run"
        )
    return first


def rows_by_index(tables: Store, table: str, index: str, wanted: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table whose index is among those that are wanted."""
    values = pa.array(wanted, pa.int64())
    for batch in iter_batches(tables, table):
        yield from batch.filter(pc.is_in(batch.column(index), value_set=values)).to_pylist()


def _require_rows(tables: Store, other: str, rows: Tensor, count: int) -> None:
    if len(rows) and int(rows.max()) >= count:
        raise DataError(
            f"expected the rows of {tables.describe(TOP_K.name)} in {other} too, found {int(rows.max())} in the first "
            f"alone; take both tables from the same run"
        )


def _column(address: str, name: str, column: pa.Array, methods: Sequence[str]) -> Tensor:
    if column.null_count:
        raise DataError(
            f"expected a value in every row of {name} in {address}, found {column.null_count} null(s); "
            f"run the score stage again"
        )
    numbers = pc.index_in(column, value_set=pa.array(methods, column.type)) if name == "method" else column
    values = torch.tensor(numbers.to_numpy())
    if values.is_floating_point():
        return values
    lowest = _LOWEST.get(name, 0)
    if values.min() < lowest:
        raise DataError(
            f"expected {name} from {lowest} in {address}, found {int(values.min())}; run the score stage again"
        )
    return values.long()
