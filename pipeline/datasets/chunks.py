"""Consecutive rows of a data set that is written, and whether they fit what is said of it.

Axes: N rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import Subject
from relatif.pipeline.datasets.label_column import LARGEST_LABEL, UNLABELLED
from relatif.schemas.errors import DataError

Values = NDArray[Any]
"""Inputs, of the type that the subject names."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows: inputs [N, *shape], labels [N] or other targets [N, *shape], and what the subject has of more.

    That may be further inputs, N texts and N identifiers. A test input without a label has UNLABELLED, if the subject's
    provenance counts such rows.
    """

    inputs: Values
    labels: NDArray[Any]
    texts: tuple[str, ...] | None = None
    more_inputs: tuple[Values, ...] = ()
    ids: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def all_inputs(self) -> tuple[Values, ...]:
        """All inputs, in the order of the subject's."""
        return (self.inputs, *self.more_inputs)

    def rows(self, start: int, stop: int) -> "Chunk":
        """Return the rows from ``start`` to ``stop`` (exclusive) that are there."""
        some = slice(start, stop)
        texts, ids = (None if values is None else values[some] for values in (self.texts, self.ids))
        return Chunk(self.inputs[some], self.labels[some], texts, tuple(each[some] for each in self.more_inputs), ids)


def check(subject: Subject, split: str, chunk: Chunk) -> None:
    """Raise DataError where a chunk of a part does not fit the subject."""
    where = f"{subject.name}/{split}"
    for described, inputs in zip(subject.inputs, chunk.all_inputs, strict=True):
        if inputs.dtype != described.dtype or inputs.shape[1:] != described.shape:
            raise DataError(
                f"expected inputs of {where} as {described.dtype} of shape {described.shape}, "
                f"found {inputs.dtype} of shape {inputs.shape[1:]}; look at the source"
            )
        _require_finite(inputs, "inputs", where)
    numbers = {len(each) for each in (*chunk.all_inputs, chunk.labels)}
    if len(chunk) == 0 or len(numbers) > 1 or (subject.target is None and chunk.labels.ndim != 1):
        raise DataError(
            f"expected one label for each of at least 1 input of {where}, "
            f"found {len(chunk)} inputs and {chunk.labels.size} labels; look at the source"
        )
    _check_targets(subject, split, chunk.labels)
    _check_count(chunk.texts, subject.input.text_column, "texts", len(chunk), where)
    _check_count(chunk.ids, subject.id_column, "identifiers", len(chunk), where)


def _check_targets(subject: Subject, split: str, labels: NDArray[Any]) -> None:
    if subject.target is not None:
        if labels.dtype != subject.target.dtype or labels.shape[1:] != subject.target.shape:
            raise DataError(
                f"expected targets of {subject.name}/{split} as {subject.target.dtype} of shape "
                f"{subject.target.shape}, found {labels.dtype} of shape {labels.shape[1:]}; look at the source"
            )
        _require_finite(labels, "targets", f"{subject.name}/{split}")
        return
    classes = len(subject.class_names)
    # Without class names labels are counts, of any size that the column holds.
    highest = classes - 1 if classes else LARGEST_LABEL
    lowest = UNLABELLED if split != "train" and subject.provenance.unlabelled is not None else 0
    if labels.dtype.kind not in "iu" or labels.min() < lowest or labels.max() > highest:
        raise DataError(
            f"expected labels of {subject.name}/{split} that are whole numbers from 0 to {highest}, "
            f"found {labels.dtype} from {labels.min()} to {labels.max()}; look at the source (for test inputs without "
            f"a label give None in place of labels, or a masked array)"
        )


def _require_finite(values: NDArray[Any], what: str, where: str) -> None:
    if values.dtype.kind == "f" and not (finite := np.isfinite(values)).all():
        raise DataError(f"expected finite {what} of {where}, found {values[~finite][0]}; look at the source")


def _check_count(values: tuple[str, ...] | None, column: str | None, what: str, rows: int, where: str) -> None:
    if (values is None) != (column is None) or len(values if values is not None else range(rows)) != rows:
        found = "none" if values is None else str(len(values))
        raise DataError(
            f"expected {f'no {what}' if column is None else f'{rows} {what}'} for {where}, found {found}; look at the "
            f"source"
        )


def joined(chunks: list[Chunk]) -> Chunk:
    """Return consecutive chunks as one."""
    inputs, *more = (np.concatenate(parts) for parts in zip(*(chunk.all_inputs for chunk in chunks), strict=True))
    texts, ids = _chained([chunk.texts for chunk in chunks]), _chained([chunk.ids for chunk in chunks])
    return Chunk(inputs, np.concatenate([chunk.labels for chunk in chunks]), texts, tuple(more), ids)


def _chained(parts: list[tuple[str, ...] | None]) -> tuple[str, ...] | None:
    given = [part for part in parts if part is not None]
    return tuple(value for part in given for value in part) if given else None
