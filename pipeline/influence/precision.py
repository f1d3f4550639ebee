"""How closely a block is computed before its candidates are scored exactly."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from relatif.pipeline.influence.products import product

FLOAT32_UNIT = 2.0**-24

UPWARD = 1 + 1e-9
"""Rounds a measured error upward, as float64 sums may fall short of it."""

PROBE_SIZE = 512
PROBE_REPEATS = 5
WORTHWHILE_SPEEDUP = 1.5
"""How much faster bfloat16 has to be: its wider bound lets more pairs through to exact scoring."""


@dataclass(frozen=True)
class Precision:
    """The dtype of a tile's products, and the relative error allowed to low-rank forms.

    ``speedup`` is how many times faster such products are than float32's here.
    """

    dtype: torch.dtype
    low_rank_tolerance: float
    speedup: float = field(default=1.0, compare=False)

    @property
    def unit(self) -> float:
        """Return the unit roundoff of the dtype."""
        return torch.finfo(self.dtype).eps / 2


SCREENING_BFLOAT16 = Precision(torch.bfloat16, 2e-2, speedup=2.0)
SCREENING_FLOAT32 = Precision(torch.float32, 2e-2)
FULL = Precision(torch.float32, 1e-7)
"""For the dense matrix: errors of float32 arithmetic only."""


def screening_precision(device: torch.device | str) -> Precision:
    """Return the faster screening on this device, by timing: bfloat16 where the hardware multiplies it, else float32.

    The choice is one of speed alone: whatever passes screening is scored as exactly as its contraction can.
    """
    narrow, wide = (_seconds(Tensor.__matmul__, dtype, device) for dtype in (torch.bfloat16, torch.float32))
    if narrow * WORTHWHILE_SPEEDUP >= wide:
        return SCREENING_FLOAT32
    # Of the routine that a screen's float32 products take, which may be faster than torch's own.
    fastest = min(wide, _seconds(lambda one, other: product(one, other.T), torch.float32, device))
    return replace(SCREENING_BFLOAT16, speedup=max(1.0, fastest / narrow))


def _seconds(multiply: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, device: torch.device | str) -> float:
    values = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype, device=device)
    seconds = []
    for _ in range(PROBE_REPEATS):
        start = time.perf_counter()
        # Reading one number waits for the product, which a GPU computes in the background.
        float(multiply(values, values)[0, 0])
        seconds.append(time.perf_counter() - start)
    return min(seconds)
