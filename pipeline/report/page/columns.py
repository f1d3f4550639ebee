"""Examples as the page's columns: each stands once, at its position; lists name positions.

Axes: P positions of the page.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.report.page.tables import NO_CLASS, Examples

DIGITS = 6
"""Significant digits of a number of the page, which shows three: rounding a number twice may end elsewhere."""


@dataclass
class Positions:
    """Rows of a data set in the order in which the page first needed them."""

    rows: list[int] = field(default_factory=list)
    _places: dict[int, int] = field(default_factory=dict)

    def of(self, rows: Iterable[int]) -> list[int]:
        """Return the positions of rows, which get one each if they have none yet."""
        return [self._place(int(row)) for row in rows]

    def _place(self, row: int) -> int:
        place = self._places.setdefault(row, len(self.rows))
        if place == len(self.rows):
            self.rows.append(row)
        return place

    @property
    def array(self) -> NDArray[np.int64]:
        """The rows, [P]."""
        return np.array(self.rows, np.int64)


def rounded(values: Iterable[float] | NDArray[Any]) -> list[float | int | None]:
    """Return numbers with DIGITS significant digits, whole ones as integers, None for what is no finite number."""
    return [rounded_number(value) for value in np.asarray(values, np.float64).tolist()]


def rounded_number(value: float | None) -> float | int | None:
    """Return one number as ``rounded`` does."""
    if value is None or not math.isfinite(value):
        return None
    short = float(f"{value:.{DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 10**DIGITS else short


def class_numbers(examples: Examples, name: str, places: NDArray[np.int64]) -> list[int | None] | None:
    """Return a column of classes at some places, None for one that is null; None where the table has no such column."""
    column = examples.classes.get(name)
    return None if column is None else [None if each == NO_CLASS else each for each in column[places].tolist()]


def labels(examples: Examples, places: NDArray[np.int64]) -> tuple[list[Any] | None, list[Any] | None]:
    """Return labels and predictions at some places: class numbers, or numbers where targets are single numbers."""
    found = []
    for name, number in (("label", "target"), ("predicted_label", "prediction")):
        column = class_numbers(examples, name, places)
        if column is None and number in examples.numbers:
            column = rounded(examples.numbers[number][places])  # type: ignore[assignment]
        found.append(column)
    return found[0], found[1]


def numbers(examples: Examples, name: str, places: NDArray[np.int64]) -> list[float | int | None] | None:
    """Return a column of numbers at some places, None where the table has no such column."""
    column = examples.numbers.get(name)
    return None if column is None else rounded(column[places])


def ids(found: Mapping[int, str] | None, rows: Sequence[int]) -> list[str | None] | None:
    """Return the identifiers of rows, None where there are none."""
    return None if found is None else [found.get(row) for row in rows]
