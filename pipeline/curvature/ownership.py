"""What is proven of each forward pass, as an audit of a few examples can't know what others make a model do.

Every way from the outputs to a covered parameter leads through a recorded use; an example computed alone has the
outputs that it has in its batch; where rows were picked by their values, every recorded gradient is its own example's.

Axes: N examples, T positions.
"""

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from relatif.pipeline.calls import raised, run_backward, run_model
from relatif.pipeline.curvature.places import BlockUse
from relatif.pipeline.curvature.sides import numbers_of
from relatif.pipeline.curvature.trail import Trail
from relatif.pipeline.inputs import Inputs, copied, rows
from relatif.schemas.errors import ModelError, TaskError

DOUBLE, SINGLE = 1e-6, 5e-2
"""Relative to the largest: sums in another order differ by about 1e-13 in float64, by about 1e-5 in float32 and by
about 1e-2 in mixed precision; what mixes examples differs by far more."""

FEW = 8
"""Examples from which on two of a batch are computed alone, not one: where the longest decides, it alone is alike."""

NOISE = 1e-3
"""Of the largest gradient at any use: what others have beside it may be rounding."""

Ends = Mapping[Node, Sequence[Node]]
"""Nodes of the graph at which a recorded use ends, with those of the data that it met."""


_PROVEN: WeakKeyDictionary[nn.Module, set[int]] = WeakKeyDictionary()
"""Signatures of the passes of a model in which rows were found to be their examples'."""


class Recorded(Protocol):
    """A recorded use: a node of the graph, and the factors of blocks from the gradient there."""

    @property
    def node(self) -> Tensor:
        """Return the node."""
        ...

    @property
    def factors(self) -> Callable[[Tensor], Iterable[BlockUse]]:
        """Return the function from gradients there to factors."""
        ...


def unrecorded(outputs: Tensor, ends: Ends, names: Mapping[int, str]) -> list[str]:
    """Return the names of the covered parameters, by identity, to which a way leads past every recorded use."""
    left, seen, found = [outputs.grad_fn], set[Node](), dict[str, None]()
    while left:
        node = left.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) in names:
            found[names[id(variable)]] = None
        left += ends[node] if node in ends else [each for each, _ in node.next_functions]
    return list(found)


def check_ways(outputs: Tensor, ends: Ends, names: Mapping[int, str]) -> None:
    """Raise ModelError that names the covered parameters which are used where it is not seen."""
    found = unrecorded(outputs, ends, names)
    if found:
        raise ModelError(
            f"expected every use of covered parameters to be seen, found one of {', '.join(found)} that is not (in a "
            f"torch.autograd.Function, in compiled code, or kept from an earlier forward pass); use torch's own "
            f"functions anew in each pass, or leave it out by curvature.exclude = {found}"
        )


@dataclass(frozen=True, eq=False)
class State:
    """The tensors that a model's modules hold, how often each was changed in place, and torch's random state."""

    tensors: tuple[Tensor, ...]
    versions: tuple[int, ...]
    random: bytes

    def same(self, other: "State") -> bool:
        """Whether nothing was replaced, changed or drawn between two states."""
        alike = len(self.tensors) == len(other.tensors) and all(map(operator.is_, self.tensors, other.tensors))
        return alike and self.versions == other.versions and self.random == other.random


def state_of(model: nn.Module) -> State:
    """Return a model's state: parameters, buffers and plain attributes."""
    held = tuple(
        value
        for module in model.modules()
        for values in (module._parameters, module._buffers, vars(module))
        for value in values.values()
        if isinstance(value, Tensor)
    )
    drawn = torch.get_rng_state().numpy().tobytes()
    return State(held, tuple(value._version for value in held), drawn)


def check_again(model: nn.Module, inputs: Inputs, outputs: Tensor, *, first_index: int) -> None:
    """Compare the outputs [N, ...] of a pass that changed the model's state with a second one's; raises ModelError."""
    apart = _apart(outputs, _outputs(model, inputs, first_index))
    if not apart <= _tolerance(_parameters_dtype(model)):
        raise ModelError(
            f"expected the same outputs for the same inputs, found them to differ by {apart:.2g} of the largest the "
            f"second time, rows {first_index} to {first_index + len(outputs) - 1}: the model draws random numbers or "
            f"keeps a state that a forward pass changes; pass training=self.training to functional.dropout, and freeze "
            f"such states"
        )


def check_alone(model: nn.Module, inputs: Inputs, outputs: Tensor, *, first_index: int) -> None:
    """Compare the outputs [N, ...] of a batch with those of two of its examples alone; ModelError where one differs.

    One of a small batch; which ones depends on the batch's first row alone.
    """
    number = len(outputs)
    chosen = (first_index * 7919 + 104_729) % max(1, number)
    for row in {chosen, (chosen + number // 2) % number} if number >= FEW else {chosen} if number > 1 else ():
        _check_one(model, inputs, outputs, row, first_index)


def _check_one(model: nn.Module, inputs: Inputs, outputs: Tensor, row: int, first_index: int) -> None:
    chosen = slice(row, row + 1)
    try:
        alone = _outputs(model, rows(inputs, chosen), first_index + row)
    except TaskError as error:
        raise ModelError(
            f"expected a model that also computes one example alone, found {raised(error.__cause__ or error)} for row "
            f"{first_index + row}; keep batch normalization in evaluation mode, and the first axis"
        ) from error
    apart = _apart(outputs[chosen], alone)
    if not apart <= _tolerance(_parameters_dtype(model)):
        raise ModelError(
            f"expected an example's outputs to depend on that example alone, found those of row {first_index + row} to "
            f"differ by {apart:.2g} of the largest without the rest of its batch of {len(outputs)}: the model mixes "
            f"examples, draws random numbers, or keeps a state that a forward pass changes; use fixed lengths and "
            f"running statistics, and pass training=self.training to functional.dropout"
        )


def check_own_rows(
    model: nn.Module, outputs: Tensor, uses: Sequence[Recorded], names: Iterable[str], trail: Trail
) -> None:
    """Check the rows of a pass in which values picked some, or that is unlike those that were checked before."""
    proven = _PROVEN.setdefault(model, set())
    asked = trail.examples > 1 and outputs.requires_grad and (trail.picked or trail.signature not in proven)
    if asked and check_rows(outputs, uses, names):
        proven.add(trail.signature)


def check_rows(outputs: Tensor, uses: Sequence[Recorded], names: Iterable[str]) -> bool:
    """Multiply each example's gradient at the outputs by a number, which has to be that of its gradient at every use.

    Returns whether all are finite, as what is not is told with its example later. Raises ModelError where a use has
    another example's.
    """
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randn(outputs.shape, generator=generator, dtype=torch.float64).to(outputs)
    factors = 1 + torch.rand(len(outputs), generator=generator, dtype=torch.float64).to(outputs)
    nodes = [use.node for use in uses]

    def at_uses(gradient: Tensor) -> Sequence[Tensor | None]:
        return run_backward(outputs, nodes, gradient, keep_graph=True)

    scaled = at_uses(drawn * factors.view(-1, *(1,) * (outputs.ndim - 1)))
    plain = at_uses(drawn)
    largest = sum(_largest(each) for each in (*plain, *scaled) if each is not None)
    if not math.isfinite(largest):
        return False
    for use, one, other in zip(uses, plain, scaled, strict=True):
        if one is not None and other is not None and not _own(use, one, other, factors, NOISE * largest):
            raise ModelError(
                f"expected rows that layers see to be their examples', found them in another order or number in the "
                f"layers of {', '.join(names)}, as where rows are sorted, picked by their values or stacked, or a hook "
                f"changes gradients; compute every row in its order, choose by torch.where, or leave the layers out by "
                f"curvature.exclude"
            )
    return True


def _own(use: Recorded, plain: Tensor, scaled: Tensor, factors: Tensor, noise: float) -> bool:
    """Whether the gradients that are ascribed to each example are those of its own output, for a use."""
    # Sums of gradients may cancel, as that of the bias of attention's keys: then they are rounding.
    least = noise + _largest(plain)
    for (_, one), (_, other) in zip(use.factors(plain), use.factors(scaled), strict=True):
        mine, theirs = numbers_of(one.gradients), numbers_of(other.gradients)
        expected = mine * factors.to(mine).view(-1, *(1,) * (mine.ndim - 1))
        if not _largest(theirs - expected) <= _tolerance(mine.dtype) * max(least, _largest(expected)):
            return False
    return True


def _outputs(model: nn.Module, inputs: Inputs, first_index: int) -> Tensor:
    """Return outputs of a pass with gradients: torch's encoders run other code without, that fills padding up."""
    with torch.enable_grad():
        return run_model(model, copied(inputs), first_index=first_index)


def _largest(values: Tensor) -> float:
    return float(values.abs().max()) if values.numel() else 0.0


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the largest difference relative to the largest entry; infinity for other shapes."""
    one, other = one.detach(), other.detach()
    if one.shape != other.shape:
        return float("inf")
    largest, apart = _largest(one), _largest(one - other)
    return apart / largest if largest > 0 else apart


def _parameters_dtype(model: nn.Module) -> torch.dtype:
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float64)


def _tolerance(dtype: torch.dtype) -> float:
    return DOUBLE if dtype == torch.float64 else SINGLE
