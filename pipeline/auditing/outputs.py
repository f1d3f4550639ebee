"""What a model gives for an example depends on that example and on stored numbers alone, whenever and wherever it runs.

Axes: N examples.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.lending import lent
from relatif.pipeline.calls import raised, read_inputs, run_model
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.inputs import (
    Inputs,
    copied,
    count,
    first_not_finite,
    in_precision,
    joined,
    named,
    precision_of,
    rows,
    tensors,
)
from relatif.schemas.errors import ModelError, NumericalError, RelatifError, TaskError

SAME = 1e-6
"""Relative to the largest output: float64 sums in another order differ by about 1e-13, and a model that rounds to
float32 inside by about 1e-7; what mixes examples or draws random numbers differs by far more."""

READ_ALIKE = 1e-5
"""Relative to the largest input: ``model_inputs`` computes in float32."""


@torch.no_grad()
def outputs_of(model: nn.Module, inputs: Inputs, *, first_index: int | None = None) -> Tensor:
    """Return a model's outputs for a copy of inputs [N, ...], rows from ``first_index`` on.

    Raises as ``run_model``, and ModelError where outputs are of another precision than the inputs, or where the model
    runs in float32 alone.
    """
    try:
        outputs = run_model(model, copied(inputs), first_index=first_index)
    except TaskError as error:
        _refuse_float32(model, inputs, error)
        raise
    expected = precision_of(inputs) or _parameters_dtype(model)
    if expected is not None and outputs.dtype != expected:
        raise ModelError(
            f"expected outputs in {expected}, in which scores are computed, found {outputs.dtype}; leave casts "
            f"such as .float() out of the model's forward pass, and argmax"
        )
    return outputs


def check_repeatable(model: nn.Module, examples: Examples, split: str) -> dict[str, float]:
    """Return by how much outputs differ for an example alone and for the same batch later, relative to the largest.

    Raises ModelError where that is more than SAME, NumericalError where outputs are not finite.
    """
    first = outputs_of(model, examples.inputs, first_index=examples.first_index)
    broken = first_not_finite(first)
    if broken is not None:
        raise NumericalError(
            f"expected finite outputs, found those of {split} example {examples.first_index + broken} not to be; look "
            f"at that example and at the model"
        )
    alone = [_alone(model, examples.rows(row, row + 1).inputs) for row in range(len(examples))]
    again = outputs_of(model, examples.inputs)
    twice = difference(first, again)
    if not twice <= SAME:
        raise ModelError(
            f"expected the same outputs for the same inputs in evaluation mode, found them to differ by {twice:.2g} of "
            f"the largest the second time ({split} examples): the model draws random numbers or keeps a state that a "
            f"forward pass changes; pass training=self.training to functional.dropout, and freeze such states"
        )
    single = difference(first, torch.cat(alone))
    if not single <= SAME:
        raise ModelError(
            f"expected an example's outputs to depend on that example alone, found those of {split} examples to differ "
            f"by {_by(single, first, alone)} without the rest of their batch: the model mixes examples (statistics "
            f"of the batch, attention or sums along the first axis); use running statistics or LayerNorm (similarities "
            f"of all pairs in a batch, as contrastive losses compare them, have no influence of one example)"
        )
    return {"same twice": twice, "alone as in a batch": single}


def check_recorded(outputs: Tensor, recorded: Tensor, split: str) -> dict[str, float]:
    """Return by how much outputs [N, ...] of a pass that is differentiated differ from those without gradients.

    Raises ModelError where that is more than SAME: another function would be explained than the one that predicts.
    """
    apart = difference(outputs, recorded)
    if not apart <= SAME:
        raise ModelError(
            f"expected the same outputs with gradients as without, found those of {split} examples to differ by "
            f"{apart:.2g} of the largest: the model asks torch.is_grad_enabled(), or uses what torch's encoders return "
            f"at padding; leave such branches out, and padding by its mask"
        )
    return {"same with gradients": apart}


def check_reading(model_inputs: Callable[[Any], Inputs], stored: Inputs, split: str) -> dict[str, float]:
    """Return by how much inputs that a task reads from stored ones [N, ...] differ, alone and in a batch.

    Raises ModelError where ``model_inputs`` changes what is stored, returns no real numbers for each example, mixes
    examples, or draws random numbers.
    """
    kept = copied(stored)
    whole = _read(model_inputs, stored)
    if not _same(stored, kept):
        raise ModelError(
            "expected model_inputs to leave stored inputs as they were, found them changed in place, so that reading "
            "them twice gives something else; begin with inputs = inputs.clone()"
        )
    again = _apart(whole, _read(model_inputs, copied(kept)))
    single = [_read(model_inputs, copied(rows(kept, slice(row, row + 1)))) for row in range(count(kept))]
    for row in single:
        if _shapes(row) != _shapes(whole):
            raise ModelError(
                f"expected model_inputs to give every example the same shape, found {_shown(whole)} in a batch and "
                f"{_shown(row)} alone; pad to a fixed length"
            )
    alone = _apart(whole, joined(single))
    if not max(again, alone) <= READ_ALIKE:
        raise ModelError(
            f"expected model_inputs to read an example always alike, found {split} examples to differ by "
            f"{max(again, alone):.2g} of the largest {'in a batch' if again <= READ_ALIKE else 'the second time'}; use "
            f"fixed numbers in place of a batch's mean and deviation, and augment in train alone"
        )
    return {"read alike": max(again, alone)}


def check_row_reading(whole: Inputs, read: Callable[[slice], Inputs], first_index: int, split: str) -> None:
    """Compare a row of inputs [N, ...] that a task read with what it reads of that row alone; the audit knows few rows.

    Which one depends on the first row alone. Raises ModelError where they differ.
    """
    number = count(whole)
    row = first_index * 7919 % number
    chosen = slice(row, row + 1)
    own, alone = rows(whole, chosen), read(chosen)
    if _shapes(own) != _shapes(alone) or not _apart(own, alone) <= READ_ALIKE:
        raise ModelError(
            f"expected model_inputs to read an example always alike, found row {first_index + row} of {split} to be "
            f"{_shown(own)} among {number} and {_shown(alone)} alone, or of other values; pad to a fixed length, use "
            f"fixed numbers in place of a batch's mean and deviation, and augment in train alone"
        )


def check_rebuilt(model: nn.Module, build: Callable[[], nn.Module], inputs: Inputs) -> dict[str, float]:
    """Return by how much another model differs that was built at another random state and was given the same numbers.

    ``model`` is in float64 and evaluation mode, best with perturbed parameters: a head that begins at zero would hide
    everything before it. Raises ModelError where outputs differ by more than SAME: a worker would score another model
    than was trained.
    """
    other = built_at(build, seed=1)
    if other is model:
        return {"built alike": 0.0}
    with lent(other):
        other.double().eval()
        try:
            other.load_state_dict(model.state_dict())
        except RuntimeError as error:
            raise ModelError(
                f"expected build_model() to make the same parameters and buffers every time, found "
                f"{raised(error)}; let nothing random decide their names or shapes"
            ) from error
        found = difference(outputs_of(model, inputs), outputs_of(other, inputs))
        if not found <= SAME:
            raise ModelError(
                f"expected two models of build_model() to agree once they hold the same parameters and buffers, found "
                f"outputs that differ by {found:.2g} of the largest: the model holds random numbers that are neither"
                f"{_plain_tensors(model, other)}; make them buffers by register_buffer, so that the checkpoint has them"
            )
    return {"built alike": found}


def built_at(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Return a new model, built with torch's random numbers at ``seed``; the caller's own stay as they were."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def difference(one: Tensor, other: Tensor) -> float:
    """Return the largest difference of two tensors relative to the largest entry; infinity for other shapes."""
    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    largest = float(torch.maximum(one.double().abs().max(), other.double().abs().max()))
    return float((one.double() - other.double()).abs().max()) / largest if largest > 0 else 0.0


def apart_alone(
    values: Callable[[Tensor, Tensor], Tensor], outputs: Tensor, targets: Tensor, together: Tensor
) -> float:
    """Return the largest difference between ``values`` of a batch, [N], and those of its examples one by one."""
    alone = [values(outputs[row : row + 1], targets[row : row + 1]) for row in range(len(targets))]
    return difference(together, torch.cat(alone))


def _by(apart: float, together: Tensor, alone: Sequence[Tensor]) -> str:
    """Return in words how outputs of a batch [N, ...] differ from those of its examples alone [1, ...]."""
    if together.shape[1:] == alone[0].shape[1:]:
        return f"{apart:.2g} of the largest"
    return f"their shape, {list(together.shape)} in a batch of {len(together)} and {list(alone[0].shape)} alone,"


def _alone(model: nn.Module, inputs: Inputs) -> Tensor:
    """Return the outputs for one example, which the model can compute with others beside it."""
    try:
        return outputs_of(model, inputs)
    except TaskError as error:
        raise ModelError(
            f"expected a model that also computes one example alone, found {raised(error.__cause__ or error)}; keep "
            f"batch normalization in evaluation mode, and the first axis"
        ) from error


def _read(model_inputs: Callable[[Any], Inputs], stored: Inputs) -> Inputs:
    found = read_inputs(model_inputs, stored)
    for each in tensors(found):
        if each.is_complex():
            raise ModelError(
                f"expected model_inputs to return real numbers, found {each.dtype}; give their parts an axis"
            )
    return found


def _parameters_dtype(model: nn.Module) -> torch.dtype | None:
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), None)


def _shapes(inputs: Inputs) -> dict[str, torch.Size]:
    return {name: each.shape[1:] for name, each in named(inputs).items()}


def _shown(inputs: Inputs) -> str:
    shapes = _shapes(inputs)
    return ", ".join(f"{list(shape)}{f' for {name}' if name else ''}" for name, shape in shapes.items())


def _same(one: Inputs, other: Inputs) -> bool:
    mine, theirs = named(one), named(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def _apart(one: Inputs, other: Inputs) -> float:
    """Return the largest difference of two inputs, each tensor's relative to its largest entry."""
    mine, theirs = named(one), named(other)
    if mine.keys() != theirs.keys():
        return float("inf")
    return max(difference(mine[name], theirs[name]) for name in mine)


def _refuse_float32(model: nn.Module, inputs: Inputs, error: TaskError) -> None:
    """Raise ModelError where a model that failed in float64 runs in float32."""
    with lent(model):
        try:
            run_model(model.float(), in_precision(inputs, torch.float32))
        except RelatifError:  # whatever it is, the first error tells what is wrong
            return
    raise ModelError(
        f"expected a model that also computes in float64, as scores do, found one for float32 alone "
        f"({raised(error.__cause__ or error)}); in place of .float() cast to the type of a parameter, "
        f"x.to(self.layer.weight.dtype), and make its tensors buffers"
    ) from error


def _plain_tensors(one: nn.Module, other: nn.Module) -> str:
    """Return, in brackets, the names of the tensors in which two models differ and that no state_dict has."""
    theirs = dict(other.named_modules())
    names = []
    for name, module in one.named_modules():
        hidden = {key: module._buffers[key] for key in module._non_persistent_buffers_set}
        for key, value in {**vars(module), **hidden}.items():
            same = vars(theirs[name]).get(key, theirs[name]._buffers.get(key)) if name in theirs else None
            if isinstance(value, Tensor) and not (isinstance(same, Tensor) and torch.equal(value, same)):
                names.append(f"{name}.{key}".lstrip("."))
    return f" ({', '.join(names)})" if names else ""
