"""Random numbers that depend on a seed, a row and the number of the draw alone: never on workers or order.

Axes: N rows.
"""

import torch
from torch import Tensor

MIX_1, MIX_2, MIX_3 = -0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15
"""The increment and the two multipliers of SplitMix64 (Steele, Lea, Flood 2014), as signed 64-bit integers."""


def uniform(rows: Tensor, seed: int, draw: int) -> Tensor:
    """Return one number in [0, 1) for each row [N], float64: the output of SplitMix64 at (seed, draw, row)."""
    state = _mixed(_mixed(torch.full_like(rows, seed)) + draw)
    return _unit(_mixed(state + rows))


def further(numbers: Tensor, count: int) -> Tensor:
    """Return ``count`` numbers in [0, 1) for each of ``numbers`` [N] in [0, 1), float64 [N, count].

    They are SplitMix64's outputs from a number's own 53 bits on, so equal numbers give equal rows and others
    independent ones.
    """
    state = _mixed((numbers.double() * (1 << 53)).long())[:, None] + torch.arange(count, device=numbers.device)
    return _unit(_mixed(state))


def sampled_rows(rows: int, count: int, seed: int) -> list[int]:
    """Return ``count`` of ``rows`` rows in rising order, drawn without replacement; a larger count keeps them all."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def _unit(state: Tensor) -> Tensor:
    """Return 64-bit states as numbers in [0, 1)."""
    # The upper 53 bits, as many as float64 holds; the mask clears the copies of the sign.
    return (state >> 11 & (1 << 53) - 1).double() / (1 << 53)


def _mixed(state: Tensor) -> Tensor:
    """Return SplitMix64's output for 64-bit states; integers wrap around."""
    state = state + MIX_1
    state = (state ^ _shifted(state, 30)) * MIX_2
    state = (state ^ _shifted(state, 27)) * MIX_3
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, bits: int) -> Tensor:
    """Shift right as unsigned integers do, without copies of the sign."""
    return state >> bits & (1 << 64 - bits) - 1
