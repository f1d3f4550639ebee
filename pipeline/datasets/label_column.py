"""The column of labels of a prepared data set: which values it may hold, and how they are read.

Axes: N examples.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import DatasetDescription, Split
from relatif.schemas.errors import DataError

UNLABELLED = -1
"""Stands in memory for the label of a test input that has none; files hold null."""

LARGEST_LABEL = 2**31 - 1


@dataclass(frozen=True)
class Allowed:
    """Labels from 0 to ``highest``; null only where the split is described to have rows without a label."""

    highest: int
    null: bool


def allowed_labels(description: DatasetDescription, split: Split) -> Allowed:
    """Return what a split's labels may be; data without classes has counts."""
    classes = len(description.class_names)
    unlabelled = split != "train" and description.provenance.unlabelled is not None
    return Allowed(classes - 1 if classes else LARGEST_LABEL, unlabelled)


def read_labels(column: pa.Array, allowed: Allowed, origin: str, first_row: int) -> NDArray[np.int64]:
    """Return labels int64 [N], UNLABELLED for null. Raises DataError, naming the row, for a label that is not allowed.

    ``first_row`` is the row of the first of them, as ``origin`` counts.
    """
    if column.null_count:
        missing, labels = np.asarray(column.is_null()), np.asarray(column.fill_null(UNLABELLED), dtype=np.int64)
    else:
        missing, labels = np.zeros(len(column), bool), _numbers(column).astype(np.int64)
    wrong = np.where(missing, not allowed.null, (labels < 0) | (labels > allowed.highest))
    if wrong.any():
        row = int(wrong.argmax())
        found = "none" if missing[row] else str(labels[row])
        raise DataError(
            f"expected labels from 0 to {allowed.highest} in {origin}, found {found} in row {first_row + row}; correct "
            f"the label or drop the row (test inputs may be without one where dataset.json says so)"
        )
    return labels


def _numbers(column: pa.Array) -> NDArray[Any]:
    """Return whole numbers without nulls as NumPy sees them in Arrow's memory.

    Arrow's own conversion loads pandas where that is installed, which takes longer than a first explanation may.
    """
    kind = np.dtype(str(column.type))
    return np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind.itemsize)
