"""A task's own ``read``: called on every batch, and what it returns checked against what the first batch gave.

Axes: N rows of a batch.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from relatif.pipeline.calls import called, described
from relatif.pipeline.datasets.description import TARGET_COLUMN, InputDescription, TargetDescription
from relatif.pipeline.datasets.tables.readers import Arrays, Rows
from relatif.pipeline.datasets.tables.reading import OwnReader
from relatif.pipeline.inputs import named
from relatif.schemas.errors import DataError

NAME = "read of the task"
STORED = {
    torch.uint8: np.uint8,
    torch.bool: np.bool_,
    torch.int8: np.int64,
    torch.int16: np.int64,
    torch.int32: np.int64,
    torch.int64: np.int64,
    torch.float16: np.float32,
    torch.bfloat16: np.float32,
    torch.float32: np.float32,
    torch.float64: np.float32,
}
"""Types of tensors, and as what they are stored."""


@dataclass(frozen=True)
class Own:
    """A task's reader; ``columns`` are those of the batch that it gets."""

    reader: OwnReader

    def described(self, first: Rows) -> tuple[InputDescription, ...]:
        """Return what is stored of the inputs, as the first batch gives them."""
        found = named(self._call(first).inputs)
        arrays = {name: _array(value, f"inputs{name}") for name, value in found.items()}
        flat = [name for name, each in arrays.items() if each.ndim == 1]
        if flat:
            raise DataError(
                f"expected inputs{flat[0]} of {NAME} with at least one axis behind the rows, found one number for each "
                f"of {first.place(0)} and the rows after it; give it an axis by [:, None]"
            )
        names = {name: name[1:] if name.startswith(".") else None for name in arrays}
        columns = {name: f"input_{name.strip('.[]')}".rstrip("_") if name else "input" for name in arrays}
        return tuple(
            InputDescription.model_validate(
                {"column": columns[name], "dtype": str(each.dtype), "shape": each.shape[1:], "name": names[name]}
            )
            for name, each in arrays.items()
        )

    def is_tuple(self, first: Rows) -> bool:
        """Return whether inputs are a tuple."""
        return isinstance(self._call(first).inputs, tuple)

    def target(self, first: Rows) -> TargetDescription | None:
        """Return what targets are, None for class numbers."""
        found = _array(self._call(first).targets, "targets")
        if found.dtype == np.int64 and found.ndim == 1:
            return None
        kind, shape = ("float32" if found.dtype == np.float32 else "int64"), found.shape[1:]
        return TargetDescription.model_validate({"column": TARGET_COLUMN, "dtype": kind, "shape": shape})

    def read(self, rows: Rows) -> tuple[Arrays, NDArray[Any]]:
        """Return the inputs and the targets of a batch; DataError, with its rows, where they do not fit it."""
        found = self._call(rows)
        inputs = tuple(_array(value, f"inputs{name}") for name, value in named(found.inputs).items())
        targets = _array(found.targets, "targets")
        for each in (*inputs, targets):
            if len(each) != len(rows.numbers):
                raise DataError(
                    f"expected {NAME} to return tensors with a row for each of the {len(rows.numbers)} rows from "
                    f"{rows.place(0)} on, found shape {list(each.shape)}; give each row of the batch one"
                )
            if each.dtype.kind == "f" and not (finite := np.isfinite(each).reshape(len(each), -1).all(axis=1)).all():
                raise DataError(
                    f"expected finite numbers of {NAME}, found others for {rows.place(int((~finite).argmax()))}; "
                    f"correct the row or drop it"
                )
        return inputs, targets.astype(np.int64) if targets.dtype.kind in "bu" else targets

    def _call(self, rows: Rows) -> Any:
        numbers, batch = rows.numbers, rows.batch
        where = f"{numbers[0]} to {numbers[-1]} of {rows.origin}"
        with called(NAME, "turn rows into Examples(inputs, targets)", {"rows": where}, defined=self.reader.read):
            found: Any = self.reader.read(batch)
        if not hasattr(found, "inputs") or not hasattr(found, "targets"):
            raise DataError(
                f"expected {NAME} to return relatif.Examples(inputs, targets), found {described(found)} for rows "
                f"{where}; return that"
            )
        values = found.inputs.values() if isinstance(found.inputs, dict) else found.inputs
        parts = [found.inputs] if isinstance(found.inputs, Tensor) else values
        wrong = [each for each in [*parts, found.targets] if not isinstance(each, Tensor)]
        if wrong or not isinstance(found.inputs, Tensor | tuple | dict):
            raise DataError(
                f"expected tensors as inputs and targets of {NAME}, found {described((wrong or [found.inputs])[0])} "
                f"for rows {where}; make tensors of them by torch.tensor"
            )
        return found


def _array(tensor: Tensor, what: str) -> NDArray[Any]:
    if tensor.dtype not in STORED or tensor.ndim == 0:
        raise DataError(
            f"expected {what} of {NAME} with rows of real or whole numbers, found {described(tensor)}; convert them"
        )
    plain = tensor.detach().cpu()
    found = (plain.float() if plain.is_floating_point() else plain).numpy()
    return np.ascontiguousarray(found.astype(STORED[tensor.dtype]))
