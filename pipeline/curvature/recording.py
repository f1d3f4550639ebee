"""One forward pass of a model with every use of a covered parameter recorded, whatever module or function makes it.

Axes: N examples, T positions. Parameters are told by identity as the model hands them to torch's functions. What is
computed of parameters and constants alone is *derived*: its gradient, example by example, is pulled back to them by
autograd. A use is where a parameter, or what is derived of it, meets data.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node
from torch.overrides import TorchFunctionMode

from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.places import BlockUse, Place
from relatif.pipeline.curvature.sides import Side
from relatif.pipeline.curvature.trail import Trail
from relatif.schemas.errors import ModelError

IN_PLACE = ("__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__iand__", "__ior__")


class Root(Protocol):
    """What a derived tensor's gradient is pulled back to: a parameter, or rows that were looked up in one."""

    @property
    def blocks(self) -> frozenset[str]:
        """Return the names of the blocks that it belongs to."""
        ...

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the factors for each example's gradient, [N, *shape]."""
        ...

    def aligned(self, gradient: Tensor) -> Iterator[BlockUse] | None:
        """Yield the factors where example n has row n alone, for gradients [N, ...]; None where it can't."""
        ...


@dataclass(frozen=True)
class ParameterRoot:
    """A covered parameter."""

    place: Place

    @property
    def blocks(self) -> frozenset[str]:
        """Return the names of its blocks."""
        return frozenset(getattr(self.place, "blocks", None) or (self.place.block,))  # type: ignore[attr-defined]

    def dense(self, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the factors for each example's gradient."""
        return self.place.dense(gradient)

    def aligned(self, gradient: Tensor) -> Iterator[BlockUse] | None:
        """Return None: a parameter has no example axis."""
        del gradient
        return None


@dataclass(frozen=True)
class Known:
    """A tensor that no example decides: a parameter, a buffer, a constant, or what is derived of them alone.

    ``roots`` are the tensors that its gradient is pulled back to, ``root`` its own where it is one of them. ``base`` is
    the tensor whose copies it holds, one for each example.
    """

    tensor: Tensor
    roots: Mapping[int, tuple[Tensor, Root]]
    root: Root | None = None
    base: Tensor | None = None


@dataclass(frozen=True)
class Use:
    """A use of covered parameters: a node of the graph, and the factors of blocks from the gradient there.

    The node's first axis holds the N examples, each M / N times in a row where it is M long. ``kept`` is what is held
    for the factors, ``positions`` are at how many positions the blocks are applied.
    """

    node: Tensor
    kept: tuple[Side, ...]
    blocks: frozenset[str]
    positions: int
    factors: Callable[[Tensor], Iterable[BlockUse]]


Meeting = Callable[["Recorder", Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Runs a function in which covered parameters meet data, and records its uses."""


Rooting = Callable[["Recorder", Callable[..., Any], tuple[Any, ...], dict[str, Any]], "Root | None"]
"""Returns the root that a function's result is itself, where it is made of covered parameters and constants alone."""


class Recorder(TorchFunctionMode):
    """Records uses while it is active. ``meeting`` is asked for every function in which parameters meet data.

    ``rooting`` is asked for every function of covered parameters and constants alone. ``ends`` are the nodes of the
    graph at which uses end, with those of the data that they met; ``trail`` is what was called.
    """

    def __init__(self, model: nn.Module, covered: Coverage, count: int, meeting: Meeting, rooting: Rooting) -> None:
        """Know all parameters and buffers of the model, for a pass over N = ``count`` examples."""
        super().__init__()
        self.count, self.meeting, self.rooting = count, meeting, rooting
        self.uses: list[Use] = []
        self.ends: dict[Node, list[Node]] = {}
        self.trail = Trail(count, hash(frozenset(covered.blocks)))
        self.names: dict[int, str] = {}
        self.without_graph: set[str] = set()
        self._known: dict[int, Known] = {}
        self._versions: list[tuple[Tensor, int, frozenset[str]]] = []
        for tensor in (*model.parameters(), *model.buffers()):
            self._known[id(tensor)] = Known(tensor, {})
        for layer in covered.layers.values():
            for name, place in layer.places.items():
                # Of the layer itself: the model may stand in another one, under longer names.
                parameter = getattr(layer.module, name.rpartition(".")[2])
                self.names[id(parameter)] = name
                self.root(parameter, ParameterRoot(place))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run a function, and record what it does with covered parameters."""
        kwargs = kwargs or {}
        self.trail.called(func, args, kwargs)
        tensors = tensors_in((args, kwargs))
        known = [self._known.get(id(tensor)) for tensor in tensors]
        if not any(known):
            found = func(*args, **kwargs)
            return found if tensors else self._constant(found, {})
        roots = {key: root for each in known if each is not None for key, root in each.roots.items()}
        if all(known):
            found = self._constant(func(*args, **kwargs), roots, tensors)
            if self.is_covered(found) and (root := self.rooting(self, func, args, kwargs)) is not None:
                self.root(found, root)
            return found
        name = getattr(func, "__name__", "")
        if (name in IN_PLACE or (name.endswith("_") and not name.endswith("__"))) and known[0] is not None:
            self._refuse_changed(known[0], func)
        if not roots or not torch.is_grad_enabled():
            self.without_graph |= {block for _, root in roots.values() for block in root.blocks}
            return func(*args, **kwargs)
        begun, behind = len(self.uses), [each.grad_fn for each in tensors if self.is_data(each)]
        found = self.meeting(self, func, args, kwargs)
        self._end([*tensors_in(found), *(use.node for use in self.uses[begun:])], [each for each in behind if each])
        return found

    def root(self, tensor: Tensor, root: Root) -> None:
        """Let gradients of what is derived of a tensor be pulled back to it."""
        self._known[id(tensor)] = Known(tensor, {id(tensor): (tensor, root)}, root)

    def known(self, value: object) -> Known | None:
        """Return what is known of a tensor, None of data and of what is no tensor."""
        return self._known.get(id(value)) if isinstance(value, Tensor) else None

    def is_covered(self, value: object) -> bool:
        """Whether a tensor is a covered parameter or derived of one."""
        known = self.known(value)
        return known is not None and bool(known.roots)

    def is_data(self, value: object) -> bool:
        """Whether a value is a tensor that examples may decide."""
        return isinstance(value, Tensor) and id(value) not in self._known

    def parameters_in(self, values: object) -> list[str]:
        """Return the names of the covered parameters in, or behind, some arguments."""
        roots = [key for tensor in tensors_in(values) if (known := self.known(tensor)) for key in known.roots]
        return [self.names.get(key, "an embedding") for key in dict.fromkeys(roots)]

    def blocks(self, *values: object) -> frozenset[str]:
        """Return the names of the blocks that gradients of some tensors go to."""
        found = [known for value in values if (known := self.known(value)) is not None]
        return frozenset(block for known in found for _, root in known.roots.values() for block in root.blocks)

    def record(self, node: Tensor, kept: Iterable[Side], blocks: frozenset[str], positions: int, factors: Any) -> None:
        """Add a use."""
        self.uses.append(Use(node, tuple(kept), blocks, positions, factors))

    def watch(self, tensor: Tensor, blocks: frozenset[str]) -> None:
        """Remember the state of a tensor that has to stay as it is; torch counts its changes in place."""
        self._versions.append((tensor, tensor._version, blocks))

    def changed(self) -> list[str]:
        """Return the blocks whose watched tensors were changed in place."""
        changed = [blocks for tensor, version, blocks in self._versions if tensor._version != version]
        return sorted({block for blocks in changed for block in blocks})

    def dense(self, tensor: Tensor, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the factors of the parameters behind a tensor from its gradient for each example, [N, *shape]."""
        known = self._known[id(tensor)]
        if known.root is not None:
            yield from known.root.dense(gradient)
        else:
            yield from self._pulled(known, list(gradient))

    def aligned(self, tensor: Tensor, gradient: Tensor) -> Iterator[BlockUse]:
        """Yield the same for a tensor whose first axis is that of the data, [N k, ...]: example n has its own rows."""
        known = self._known[id(tensor)]
        if known.base is not None and len(gradient) == self.count:
            yield from self.dense(known.base, gradient.reshape(self.count, *known.base.shape))
            return
        own = None if known.root is None else known.root.aligned(gradient)
        if own is not None:
            yield from own
            return
        each = len(gradient) // self.count
        rows = [slice(row * each, (row + 1) * each) for row in range(self.count)]
        yield from self._pulled(known, [torch.zeros_like(gradient).index_put_(*_at(gradient, row)) for row in rows])

    def _pulled(self, known: Known, gradients: list[Tensor]) -> Iterator[BlockUse]:
        """Pull each example's gradient back to the roots, one by one: not every function can be batched by vmap."""
        tensors = [tensor for tensor, _ in known.roots.values()]
        rows = [
            torch.autograd.grad(known.tensor, tensors, row.to(known.tensor), retain_graph=True, materialize_grads=True)
            for row in gradients
        ]
        for (_, root), parts in zip(known.roots.values(), zip(*rows, strict=True), strict=True):
            yield from root.dense(torch.stack(parts))

    def _end(self, recorded: Iterable[Tensor], behind: list[Node]) -> None:
        """Remember where the graph behind a use goes on: with the data that the parameters met."""
        nodes = (each.grad_fn for each in recorded)
        self.ends.update((node, behind) for node in nodes if node is not None and node not in behind)

    def _constant(self, found: Any, roots: Mapping[int, tuple[Tensor, Root]], given: list[Tensor] | None = None) -> Any:
        for tensor in tensors_in(found):
            if id(tensor) in self._known and self._known[id(tensor)].roots:
                continue  # the parameter itself
            behind = dict(roots) if tensor.requires_grad else {}
            self._known[id(tensor)] = Known(tensor, behind, base=self._copied(tensor, behind, given or []))
        return found

    def _copied(self, tensor: Tensor, behind: Mapping[int, object], given: list[Tensor]) -> Tensor | None:
        """Return the tensor whose copies, one for each example, another holds, or None."""
        if not behind or not tensor.ndim or len(tensor) != self.count or self.count == 1 or len(given) != 1:
            return None
        # Copies of a broadcast axis lie at one place.
        same = tensor.stride(0) == 0 and tensor[0].numel() == given[0].numel()
        return given[0] if same else None

    def _refuse_changed(self, known: Known, func: Callable[..., Any]) -> None:
        self._known.pop(id(known.tensor), None)
        if known.roots:
            names = self.parameters_in(known.tensor) or [self.names.get(key, "") for key in known.roots]
            raise refusal(names, func, "which changes it in place")


def refusal(
    names: Iterable[str], func: Callable[..., Any], why: str = "whose use of it is not understood"
) -> ModelError:
    """Return the error for covered parameters that meet data in a function that is not understood."""
    listed = list(names)
    return ModelError(
        f"expected covered parameters to be used in ways that are understood, found {', '.join(listed)} in "
        f"{getattr(func, '__name__', func)}, {why}; freeze it with requires_grad_(False), or leave it out by "
        f"curvature.exclude = {listed}"
    )


def tensors_in(value: Any) -> list[Tensor]:
    """Return the tensors in nested tuples, lists and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for each in value for tensor in tensors_in(each)]
    return tensors_in(list(value.values())) if isinstance(value, dict) else []


def by_example(values: Tensor, count: int, names: Iterable[str] = ()) -> Tensor:
    """Return [N, T, F] from values [M, T', F] whose first axis holds N examples, each M / N times in a row.

    Raises ModelError where it can't: M is no multiple of N.
    """
    if len(values) == count:
        return values
    if not count or len(values) % count:
        listed = list(names)
        raise ModelError(
            f"expected inputs of the layer of {', '.join(listed)} to have the {count} "
            f"examples as first axis, found shape {list(values.shape)}; put the examples first (batch_first=True), "
            f"compute all rows where some are picked by a mask and choose by torch.where, or leave it out by "
            f"curvature.exclude = {listed}"
        )
    # Also of no rows at all, where the examples picked none.
    return values.reshape(count, len(values) // count * math.prod(values.shape[1:-1]), values.shape[-1])


def _at(gradient: Tensor, rows: slice) -> tuple[tuple[Tensor], Tensor]:
    places = torch.arange(rows.start, rows.stop, device=gradient.device)
    return (places,), gradient[rows]
