"""One side of a layer's gradients, output gradients or inputs at every position: a tensor, or one-hot rows unformed.

Axes: N examples, T positions, D width of a side (O outputs or I inputs), R vectors. An embedding's inputs are one-hot
rows: a batch of them holds N T V numbers for V words, of which N T are not zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

WIDEST_MOMENT = 20_000
"""Widest side whose second moment is kept as a matrix: its decomposition needs about 13 GB, and hours."""


@dataclass(frozen=True)
class OneHot:
    """Rows [N, T, D] that hold one number each: ``weights`` [N, T] at the places ``ids`` int64 [N, T], 0 elsewhere."""

    ids: Tensor
    width: int
    weights: Tensor


Side = Tensor | OneHot
"""Output gradients [N, T, O], or inputs [N, T, I], of one call of a layer."""

Chosen = slice | Tensor
"""Some places of a side: a slice, or rising ids int64."""


def widened(side: Side) -> Side:
    """Return a side in float32 where mixed precision left it in less: sums would lose too much in that."""
    if isinstance(side, OneHot):
        return OneHot(side.ids, side.width, _wide(side.weights))
    return _wide(side)


def _wide(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values


def width_of(side: Side) -> int:
    """Return D."""
    return side.width if isinstance(side, OneHot) else side.shape[2]


def positions_of(side: Side) -> int:
    """Return T."""
    return numbers_of(side).shape[1]


def numbers_of(side: Side) -> Tensor:
    """Return a side's own numbers, [N, T, ...]: they tell its dtype and device."""
    return side.weights if isinstance(side, OneHot) else side


def bytes_of(side: Side) -> int:
    """Return how much memory a side takes."""
    return side.ids.nbytes + side.weights.nbytes if isinstance(side, OneHot) else side.nbytes


def rows_of(side: Side, rows: slice) -> Side:
    """Return the side of some examples."""
    return OneHot(side.ids[rows], side.width, side.weights[rows]) if isinstance(side, OneHot) else side[rows]


def dense(side: Side) -> Tensor:
    """Return all numbers of a side, [N, T, D]."""
    if isinstance(side, OneHot):
        formed = side.weights.new_zeros(*side.ids.shape, side.width)
        return formed.scatter_(2, side.ids[..., None], side.weights[..., None])
    return side


def chosen_places(side: Side, chosen: Chosen) -> Tensor:
    """Return a side at some of its places, [N, T, d]."""
    if not isinstance(side, OneHot):
        return side[..., chosen]
    places = torch.arange(side.width, device=side.ids.device)[chosen]
    return (side.ids[..., None] == places) * side.weights[..., None]


def rotated(side: Side, basis: Tensor | None) -> Side:
    """Return a side times an orthogonal basis [D, D]; None stands for the identity."""
    if basis is None:
        return side
    return side.weights[..., None] * basis[side.ids] if isinstance(side, OneHot) else side @ basis


def joined_positions(sides: Sequence[Side]) -> Side | None:
    """Return several sides of one width as one whose positions follow one another; None where they are of two kinds."""
    if len(sides) == 1:
        return sides[0]
    hot = [side for side in sides if isinstance(side, OneHot)]
    plain = [side for side in sides if not isinstance(side, OneHot)]
    if hot and plain:
        return None
    if plain:
        return torch.cat(plain, dim=1)
    ids, weights = torch.cat([side.ids for side in hot], dim=1), torch.cat([side.weights for side in hot], dim=1)
    return OneHot(ids, hot[0].width, weights)


def joined_rows(sides: Sequence[Side]) -> Side:
    """Return the sides of consecutive examples, all of one kind, as one; missing positions are zeros."""
    hot = [side for side in sides if isinstance(side, OneHot)]
    plain = [side for side in sides if not isinstance(side, OneHot)]
    if not hot:
        return torch.cat(with_equal_positions(plain))
    ids, weights = (with_equal_positions([getattr(side, name) for side in hot]) for name in ("ids", "weights"))
    return OneHot(torch.cat(ids), hot[0].width, torch.cat(weights))


def with_equal_positions(parts: Sequence[Tensor], *, fill: int = 0) -> list[Tensor]:
    """Return tensors [n, T, ...] with the positions of the longest, the others filled up."""
    longest = max(part.shape[1] for part in parts)
    return [
        part
        if part.shape[1] == longest
        else torch.cat([part, part.new_full((len(part), longest - part.shape[1], *part.shape[2:]), fill)], dim=1)
        for part in parts
    ]


def is_diagonal(side: Side) -> bool:
    """Return whether the second moment of a side is kept as its diagonal: exactly, or for its width."""
    return isinstance(side, OneHot) or width_of(side) > WIDEST_MOMENT


def wide_sides(blocks: Mapping[str, tuple[int, int]]) -> list[str]:
    """Return in words the sides of blocks (O, I) that are wider than WIDEST_MOMENT: diagonals stand for their moments.

    For an embedding's words that is exact.

    >>> wide_sides({"words": (64, 30522), "head": (10, 65)})
    ["30,522 inputs of layer 'words'"]
    """
    sides = ((name, *side) for name, shape in blocks.items() for side in zip(shape, ("outputs", "inputs"), strict=True))
    return [f"{width:,} {what} of layer {name!r}" for name, width, what in sides if width > WIDEST_MOMENT]


def moment(side: Side, weights: Tensor) -> Tensor:
    """Return ``sum_nt weights[n] v[n, t] v[n, t]'`` [D, D] for N weights, in the side's precision.

    The diagonal [D] stands for it where that is all there is, in one-hot rows (their sum is float64), and where the
    side is wider than WIDEST_MOMENT.
    """
    side = widened(side)
    if isinstance(side, OneHot):
        squares = weights.double()[:, None] * side.weights.double().square()
        # On the processor, where sums over equal ids have a fixed order.
        counts = torch.zeros(side.width, dtype=torch.float64)
        return counts.index_add_(0, side.ids.flatten().cpu(), squares.flatten().cpu()).to(weights.device)
    weights = weights.to(side.dtype)
    positions, width = side.shape[1:]
    if is_diagonal(side):
        return weights @ side.square().sum(dim=1)
    if positions >= width:
        # One [D, D] product for each example takes no more memory than a weighted copy of all [N T, D] values.
        return (weights @ (side.mT @ side).flatten(1)).view(width, width)
    joined = side.flatten(0, 1)
    return (weights.repeat_interleave(positions)[:, None] * joined).T @ joined


def added_moments(one: Tensor, other: Tensor) -> Tensor:
    """Return the sum of two moments of equal width, each a matrix or its diagonal."""
    if one.ndim == other.ndim:
        return one + other
    return (one if one.ndim == 2 else one.diag()) + (other if other.ndim == 2 else other.diag())


def applied(side: Side, vectors: Tensor) -> Tensor:
    """Return ``V_r v[n, t]`` for matrices [R, O, D], [N, R, T, O]."""
    if isinstance(side, OneHot):
        return vectors[:, :, side.ids].permute(2, 0, 3, 1) * side.weights[:, None, :, None]
    return torch.einsum("nti,roi->nrto", side, vectors)


def collected(back: Tensor, side: Side) -> Tensor:
    """Return ``sum_nt back[n, r, t] v[n, t]'`` for [N, R, T, O], [R, O, D]."""
    if isinstance(side, OneHot):
        values = (back * side.weights[:, None, :, None]).permute(1, 3, 0, 2).flatten(2)
        sums = torch.zeros(*values.shape[:2], side.width, dtype=values.dtype)
        return sums.index_add_(2, side.ids.flatten().cpu(), values.cpu()).to(values.device)
    return torch.einsum("nrto,nti->roi", back, side)
