"""Rows of the pipeline's tables for tests that care for some columns alone."""

from typing import Any

import pyarrow as pa

from relatif.schemas.columns import TableSpec


def number_columns(spec: TableSpec) -> list[str]:
    """Return the names of a table's columns of numbers."""
    return [field.name for field in spec.schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]


def filled(spec: TableSpec, columns: dict[str, Any]) -> pa.Table:
    """Return rows of a table from some of its columns; those that are not given are null."""
    rows = len(next(iter(columns.values())))
    given = {field.name: columns.get(field.name, pa.nulls(rows, field.type)) for field in spec.schema}
    return pa.table(given).cast(spec.schema)
