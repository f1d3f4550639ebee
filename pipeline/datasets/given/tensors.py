"""Tensors that a user gives, as the data's inputs are stored: one example."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from relatif.pipeline.datasets.description import InputDescription, Subject
from relatif.pipeline.datasets.stored_columns import read_as
from relatif.pipeline.inputs import Inputs, tensors
from relatif.schemas.errors import DataError


def stored_tensors(given: Inputs, subject: Subject) -> Inputs:
    """Return tensors of one example as the data's, [1, ...] each; a first axis of length 1 may be there already.

    DataError where their number, names, shapes or values are others than the data's.
    """
    described = subject.inputs
    parts = _by_place(given, described)
    return subject.formed([_stored(tensor, each) for tensor, each in zip(parts, described, strict=True)])


def tensor_of(values: Any, described: InputDescription) -> Tensor:
    """Return nested lists of numbers as a tensor; DataError for anything else."""
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise DataError(
            f"expected numbers of shape {list(described.shape)} for {described.column!r}, found "
            f"{' '.join(str(error).split())}; correct them"
        ) from error


def _by_place(given: Inputs, described: Sequence[InputDescription]) -> list[Tensor]:
    names = [each.name for each in described]
    if isinstance(given, dict) and set(given) == set(names):
        return [given[str(name)] for name in names]
    if not isinstance(given, dict) and len(tensors(given)) == len(described):
        return tensors(given)
    wanted = ", ".join(f"{each.name or each.column} {list(each.shape)}" for each in described)
    found = ", ".join(given) if isinstance(given, dict) else f"{len(tensors(given))} tensors"
    raise DataError(f"expected the data's inputs {wanted}, found {found or 'none'}; give one tensor for each")


def _stored(tensor: Tensor, described: InputDescription) -> Tensor:
    values = tensor.detach().cpu()
    if tuple(values.shape) == described.shape:
        values = values[None]
    if tuple(values.shape) != (1, *described.shape):
        raise DataError(
            f"expected one input {described.column!r} of shape {list(described.shape)}, found {list(tensor.shape)}; "
            f"give one example as the data store it"
        )
    if described.mean is not None and values.is_floating_point():
        return _finite(values.float(), described)
    wanted = getattr(torch, described.dtype)
    if wanted.is_floating_point:
        return _finite(values.to(wanted), described)
    cast = values.to(wanted)
    if not torch.equal(cast.double(), values.double()):
        raise DataError(
            f"expected {described.dtype} values for input {described.column!r}, as the data store them, found "
            f"{values.dtype} from {float(values.min()):g} to {float(values.max()):g} that are none; give them before "
            f"the task's model_inputs"
        )
    return read_as(described, cast)


def _finite(values: Tensor, described: InputDescription) -> Tensor:
    if not bool(values.isfinite().all()):
        raise DataError(
            f"expected finite numbers for input {described.column!r}, found "
            f"{float(values[~values.isfinite()][0])}; correct them"
        )
    return values
