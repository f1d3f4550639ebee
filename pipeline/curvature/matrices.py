"""Uses of a weight as a matrix: linear layers, convolutions, embeddings, and products with a bare weight.

Axes: N examples, T positions, O outputs, I inputs of a layer (a bias is a last input of constant 1).
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.places import Bias, BlockUse, Weight
from relatif.pipeline.curvature.recording import ParameterRoot, Recorder, by_example
from relatif.pipeline.curvature.sides import OneHot, Side, dense, positions_of


@dataclass(frozen=True)
class Product:
    """A layer ``y = M x + b`` by which covered parameters meet data: M is a weight, or its transpose.

    ``by_rows`` says that the weight's rows are the outputs.
    """

    recorder: Recorder
    weight: object
    bias: object
    by_rows: bool

    @property
    def place(self) -> Weight | None:
        """Return the weight's place where it is a parameter of one block for each group, or a transpose of one."""
        return self._placed[0]

    @property
    def folded(self) -> bool:
        """Whether the bias is the last input of the weight's block."""
        place, by_rows = self._placed
        bias = _root_place(self.recorder, self.bias)
        return place is not None and isinstance(bias, Bias) and bias.blocks == place.blocks and by_rows != place.flipped

    def factors(self, gradients: Sequence[Tensor], seen: Sequence[Side]) -> Iterator[BlockUse]:
        """Yield the factors from gradients [N, T, O] and inputs [N, T, I] of each group, the bias folded in."""
        place, by_rows = self._placed
        if place is not None and len(place.blocks) == len(seen):
            rows, columns = (gradients, seen) if by_rows else (seen, gradients)
            yield from place.factors(rows, columns, by_rows=by_rows, folded=self.folded)
        elif self.recorder.is_covered(self.weight):
            assert isinstance(self.weight, Tensor)
            yield from self.recorder.dense(self.weight, self._formed(gradients, seen))
        if self.recorder.is_covered(self.bias) and not self.folded:
            assert isinstance(self.bias, Tensor)
            summed = torch.cat([gradient.sum(dim=1) for gradient in gradients], dim=1)
            yield from self.recorder.dense(self.bias, summed.reshape(len(summed), *self.bias.shape))

    def _formed(self, gradients: Sequence[Tensor], seen: Sequence[Side]) -> Tensor:
        """Return each example's gradient of the weight itself, [N, *shape]."""
        assert isinstance(self.weight, Tensor)
        if self.place is not None and len(self.place.blocks) != len(seen):
            raise AssertionError("a grouped weight is used in its own convolution")
        formed = [torch.einsum("nto,nti->noi", d, dense(a)) for d, a in zip(gradients, seen, strict=True)]
        whole = torch.cat(formed if self.by_rows else [each.mT for each in formed], dim=1)
        return whole.reshape(len(whole), *self.weight.shape)

    @property
    def _placed(self) -> tuple[Weight | None, bool]:
        """Return the weight's place, and whether the parameter's rows are the outputs."""
        place = _root_place(self.recorder, self.weight)
        if isinstance(place, Weight):
            return place, self.by_rows
        known = self.recorder.known(self.weight)
        if known is None or len(known.roots) != 1:
            return None, self.by_rows
        ((parameter, root),) = known.roots.values()
        of_root = root.place if isinstance(root, ParameterRoot) else None
        if isinstance(of_root, Weight) and _is_transpose(known.tensor, parameter):
            return of_root, not self.by_rows
        return None, self.by_rows


def record_product(recorder: Recorder, product: Product, output: Tensor, seen: Tensor, *, axis: int = 0) -> Tensor:
    """Record ``output`` [..., O] of a linear layer for inputs [..., I], examples along ``axis``; return it to go on.

    The model goes on with a copy, so that an activation in place can't overwrite what was recorded.
    """
    blocks = recorder.blocks(product.weight, product.bias)
    recorder.watch(seen, blocks)
    values = positions(recorder, seen.detach().movedim(axis, 0), blocks)
    kept = folded(values, bias=product.folded)

    # Like every node it has the examples in front.
    node = output.movedim(axis, 0)

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        return product.factors([positions(recorder, gradient, blocks)], [kept])

    recorder.record(node, [kept], blocks, kept.shape[1], factors)
    return node.movedim(0, axis).clone()


def record_lookup(recorder: Recorder, weight: Tensor, output: Tensor, rows: OneHot) -> Tensor:
    """Record rows of a weight that were looked up; return the output [N, ..., D] to go on."""
    product, blocks = Product(recorder, weight, None, by_rows=False), recorder.blocks(weight)

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        at_rows = gradient.reshape(len(rows.ids), -1, gradient.shape[-1])
        # Rows that are summed into one output have its gradient each.
        return product.factors([at_rows.expand(-1, positions_of(rows), -1)], [rows])

    recorder.record(output, [rows], blocks, positions_of(rows), factors)
    return output.clone()


def lookups(ids: Tensor, width: int, like: Tensor, padding: int | None, weights: Tensor | None = None) -> OneHot:
    """Return looked-up rows as inputs of a linear layer: ``weights`` at the ids [N, T], 0 elsewhere and for padding."""
    ids = ids.long()
    found = torch.ones(ids.shape, dtype=like.dtype, device=ids.device) if weights is None else weights.detach()
    if padding is not None:
        # The padding row is a constant.
        found = found.masked_fill(ids == (padding % width), 0)
    return OneHot(ids, width, found)


def record_convolution(
    recorder: Recorder, product: Product, output: Tensor, patches: Sequence[Tensor], groups: int
) -> Tensor:
    """Record the output [M, O, ...] of a convolution of patches [M, T, I] for each group; return it to go on."""
    blocks = recorder.blocks(product.weight, product.bias)
    kept = [by_example(patch, recorder.count, blocks) for patch in patches]

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        parts = gradient.flatten(2).unflatten(1, (groups, -1)).unbind(dim=1)
        return product.factors([by_example(part.transpose(1, 2), recorder.count, blocks) for part in parts], kept)

    recorder.record(output, kept, blocks, kept[0].shape[1], factors)
    return output.clone()


def record_transposed(
    recorder: Recorder, product: Product, output: Tensor, seen: Tensor, window: "Window", groups: int
) -> Tensor:
    """Record a transposed convolution of inputs [M, C, ...]: what an input reaches are patches of the outputs."""
    blocks = recorder.blocks(product.weight, product.bias)
    recorder.watch(seen, blocks)
    parts = seen.detach().flatten(2).unflatten(1, (groups, -1)).unbind(dim=1)
    kept = [by_example(part.transpose(1, 2), recorder.count, blocks) for part in parts]
    weight_alone = Product(recorder, product.weight, None, by_rows=False)

    def factors(gradient: Tensor) -> Iterator[BlockUse]:
        reached = window.patches(gradient, groups, seen.shape[2:])
        patches = [by_example(patch, recorder.count, blocks) for patch in reached]
        if recorder.is_covered(product.weight):
            yield from weight_alone.factors(patches, kept)
        if recorder.is_covered(product.bias):
            assert isinstance(product.bias, Tensor)
            summed = by_example(gradient.flatten(2).transpose(1, 2), recorder.count, blocks).sum(dim=1)
            yield from recorder.dense(product.bias, summed)

    recorder.record(output, kept, blocks, kept[0].shape[1], factors)
    return output.clone()


@dataclass(frozen=True)
class Window:
    """A kernel that moves over padded values, by lengths along each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]

    def patches(self, values: Tensor, groups: int, places: Sequence[int] | None = None) -> list[Tensor]:
        """Return, per group, the values [M, C, ...] under the kernel, [M, T, C / groups * kernel], at all its places.

        ``places`` are how many there are along each axis, where not all.
        """
        pads = [length for pad in reversed(self.padding) for length in (pad, pad)]
        windows = functional.pad(values, pads)
        for axis, (length, step, apart) in enumerate(zip(self.kernel, self.stride, self.dilation, strict=True)):
            windows = windows.unfold(2 + axis, apart * (length - 1) + 1, step)[..., ::apart]
        if places is not None:
            for axis, count in enumerate(places):
                windows = windows.narrow(2 + axis, 0, count)
        size = len(self.kernel)
        # [M, C, places, kernel] -> [M, T, groups, C / groups * kernel].
        moved = windows.permute(0, *range(2, 2 + size), 1, *range(2 + size, 2 + 2 * size))
        flat = moved.reshape(len(values), math.prod(moved.shape[1 : 1 + size]), groups, -1)
        return list(flat.unbind(dim=2))


def positions(recorder: Recorder, values: Tensor, blocks: frozenset[str]) -> Tensor:
    """Fold all axes between the examples and the last into one axis of positions: [M, ..., F] -> [N, T, F]."""
    if values.ndim == 2 and len(values) == recorder.count:
        return values[:, None]
    flat = values[:, None].flatten(1, -2) if values.ndim != 1 else values[None, None]
    return by_example(flat, recorder.count, sorted(blocks))


def folded(inputs: Tensor, *, bias: bool) -> Tensor:
    """Return inputs with the bias's constant."""
    return torch.cat([inputs, inputs.new_ones((*inputs.shape[:-1], 1))], dim=-1) if bias else inputs


def _root_place(recorder: Recorder, value: object) -> object:
    known = recorder.known(value)
    return known.root.place if known is not None and isinstance(known.root, ParameterRoot) else None


def _is_transpose(view: Tensor, parameter: Tensor) -> bool:
    """Whether a matrix is another one's transpose, at the same place in memory."""
    return (
        view.ndim == parameter.ndim == 2
        and view.data_ptr() == parameter.data_ptr()
        and view.dtype == parameter.dtype
        and view.shape == parameter.shape[::-1]
        and view.stride() == parameter.stride()[::-1]
    )
