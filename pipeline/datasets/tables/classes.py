"""Which labels are which classes: by the settings, else the data's own names, else the checkpoint's, else sorted.

Axes: N rows of a part.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.tables.rows import Table
from relatif.pipeline.datasets.tables.survey import Part
from relatif.schemas.errors import DataError

NamesOf = Literal["settings", "data", "checkpoint"]
"""Who gave names to the classes. Whole numbers beside the data's own names are the places of these."""


def classes_of(
    parts: Mapping[str, Part], train: str, names: tuple[str, ...] | None, table: Table, given_by: NamesOf = "settings"
) -> tuple[tuple[str, ...], dict[str, NDArray[np.int64]]]:
    """Return the classes' names in order, and each part's labels [N], UNLABELLED for none (in other parts than train).

    ``names`` are those that somebody gave. Raises DataError, naming the row, for a label that is no class, for a
    training example without one, and for classes that hardly differ.
    """
    values = [value for part in parts.values() for value in part.own_values]
    whole = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
    if whole and names is not None and _are_places(values, names, given_by, table):
        order: dict[Any, int] = {number: number for number in range(len(names))}
    elif names is not None:
        order = {_native(value, values): place for place, value in enumerate(names)}
    elif whole:
        names, order = _counted(parts, train, table)
    else:
        _refuse_fractions(parts[train], table)
        kept = sorted({_text(value) for value in parts[train].own_values})
        _refuse_alike(parts[train], table)
        names, order = tuple(kept), {name: place for place, name in enumerate(kept)}
        order |= {value: order[_text(value)] for value in parts[train].own_values}
    return names, {name: _labels(part, order, table, name == train) for name, part in parts.items()}


def _are_places(values: Sequence[int], names: Sequence[str], given_by: NamesOf, table: Table) -> bool:
    """Return whether whole numbers are places among the names; DataError where they may also be names themselves."""
    are_names = {str(value) for value in values} <= set(names)
    may_be_places = all(0 <= value < len(names) for value in values)
    if given_by == "data" or not are_names:
        return True
    if given_by == "checkpoint" and may_be_places and any(names[value] != str(value) for value in values):
        raise DataError(
            f"expected to know whether the labels of {table.source.describe()} are numbers or names of the classes "
            f"{', '.join(names[:8])} of the checkpoint's id2label, found {sorted(values)[:8]}, which may be both; give "
            f"data.class_names in the order of the model's outputs"
        )
    return False


def _refuse_alike(part: Part, table: Table) -> None:
    """Raise DataError for labels that differ by spaces or by how their letters are composed alone, or are bytes."""
    known: dict[str, Any] = {}
    for place, value in enumerate(part.values):
        plain = unicodedata.normalize("NFC", _text(value)).strip()
        other = known.setdefault(plain, value)
        if other != value or isinstance(value, bytes):
            row = int((part.own_codes == place).argmax())
            found = f"{value!r} beside {other!r}" if other != value else f"the bytes {value!r}"
            raise DataError(
                f"expected labels that are texts and differ by more than spaces and how letters are composed, found "
                f"{found} in {part.place(table, row)}; write them alike"
            )


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
