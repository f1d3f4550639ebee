"""Which labels are which classes: by the settings, else the data's own names, else the checkpoint's, else sorted.

Axes: N rows of a part.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.tables.rows import Table
from relatif.pipeline.datasets.tables.survey import Part
from relatif.schemas.errors import DataError


def classes_of(
    parts: Mapping[str, Part], train: str, names: tuple[str, ...] | None, table: Table
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return the classes' names in order, and each part's labels [N], UNLABELLED for none (in other parts than train).

    ``names`` are those that somebody gave. Raises DataError, naming the row, for a label that is no class, and for a
    training example without one.
    """
    values = [value for part in parts.values() for value in part.own_values]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if whole and names is not None and not {str(value) for value in values} <= set(names):
        order: dict[Any, int] = {number: number for number in range(len(names))}
    elif names is not None:
        order = {_native(value, values): place for place, value in enumerate(names)}
    elif whole:
        names, order = _counted(parts, train, table)
    else:
        _refuse_fractions(parts[train], table)
        kept = sorted({_text(value) for value in parts[train].own_values})
        names, order = tuple(kept), {name: place for place, name in enumerate(kept)}
        order |= {value: order[_text(value)] for value in parts[train].own_values}
    return names, {name: _labels(part, order, table, name == train) for name, part in parts.items()}


def _native(name: str, values: Sequence[Any]) -> Any:
    """Return the value of the data that a name stands for: the name itself, or a number or truth value."""
    return next((value for value in values if _text(value) == name), name)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_fractions(part: Part, table: Table) -> None:
    wrong = next((place for place, value in enumerate(part.values) if isinstance(value, float)), None)
    if wrong is not None:
        row = int((part.own_codes == wrong).argmax())
        raise DataError(
            f"expected labels that are texts or whole numbers, found {part.values[wrong]} in {part.place(table, row)}; "
            f"for numbers that are predicted set data.target_columns"
        )


def _counted(parts: Mapping[str, Part], train: str, table: Table) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the classes of whole numbers without names: from 0 to the highest."""
    lowest, highest = min(parts[train].own_values, default=0), max(parts[train].own_values, default=0)
    if lowest != 0 or highest >= sum(part.rows for part in parts.values()):
        raise DataError(
            f"expected class numbers from 0 on in {table.source.describe()}, found {lowest} to {highest}; give "
            f"data.class_names in the order of the model's outputs, such as "
            f"{list(map(str, sorted(parts[train].own_values)[:3]))}, or data.target_columns for numbers to predict"
        )
    return tuple(map(str, range(highest + 1))), {number: number for number in range(highest + 1)}


def _labels(part: Part, order: Mapping[Any, int], table: Table, trained: bool) -> NDArray[np.int64]:
    numbers = np.array([order.get(value, UNLABELLED - 1) for value in part.values] + [UNLABELLED], np.int64)
    labels = numbers[part.own_codes]
    unknown = labels < UNLABELLED
    if unknown.any():
        row = int(unknown.argmax())
        known = ", ".join(_text(value) for value in list(order)[:8])
        raise DataError(
            f"expected one of the classes {known} as label, found {part.values[part.own_codes[row]]!r} in "
            f"{part.place(table, row)}; correct it, or name all classes by data.class_names"
        )
    if trained and (missing := labels == UNLABELLED).any():
        raise DataError(
            f"expected a label for each training example, found none in {part.place(table, int(missing.argmax()))}; "
            f"fill it in or drop the row"
        )
    return labels
