"""What ``train_examples`` and ``test_examples`` say of some examples, by their index.

Axes: R rows that are asked for, in any order and more than once; W different examples, rising.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from relatif.pipeline.storage.parquet import iter_batches
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.exports import Side
from relatif.schemas.tables import TABLES


@dataclass(frozen=True, eq=False)
class ExampleRows:
    """Columns of some examples [W], whose indices rise."""

    index: NDArray[np.int64]
    columns: pa.Table

    def of(self, rows: NDArray[np.int64]) -> pa.Table:
        """Return the columns of examples [R] that are among them."""
        return self.columns.take(pa.array(np.searchsorted(self.index, rows), pa.int64()))


def known_rows(tables: Store, side: Side, wanted: Collection[int], names: Sequence[str]) -> dict[int, dict[str, Any]]:
    """Return columns of those examples among ``wanted`` that a run's table has, by index."""
    index = np.array(sorted(wanted), np.int64)
    found = _read(tables, side, index, names)
    return dict(zip(found[f"{side}_index"].to_pylist(), found.select(list(names)).to_pylist(), strict=True))


def rows_of_examples(tables: Store, side: Side, wanted: NDArray[np.int64], names: Sequence[str]) -> ExampleRows:
    """Return columns of the examples ``wanted`` [W], which rise; nulls for a column that an early run lacks.

    Only these are held. Raises DataError unless each stands once in the table.
    """
    table = _read(tables, side, wanted, names)
    if not np.array_equal(table[f"{side}_index"].to_numpy(), wanted):
        raise DataError(
            f"expected each of {len(wanted)} examples that an explanation names once in "
            f"{tables.describe(f'{side}_examples')}, found {table.num_rows} row(s); take all tables from the same run"
        )
    return ExampleRows(wanted, table.select(list(names)))


def _read(tables: Store, side: Side, wanted: NDArray[np.int64], names: Sequence[str]) -> pa.Table:
    """Return the index and columns of the rows of a table that are among ``wanted``, by rising index."""
    spec = TABLES[f"{side}_examples"]
    schema = pa.schema([spec.schema.field(name) for name in [f"{side}_index", *names]])
    found = [schema.empty_table()]
    for batch in iter_batches(tables, spec.name):
        kept = pa.Table.from_batches([batch]).filter(pc.is_in(batch[f"{side}_index"], value_set=pa.array(wanted)))
        columns = {
            field.name: kept[field.name] if field.name in kept.schema.names else pa.nulls(kept.num_rows, field.type)
            for field in schema
        }
        found.append(pa.table(columns, schema=schema))
    return pa.concat_tables(found).combine_chunks().sort_by(f"{side}_index")
