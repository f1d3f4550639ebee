"""How closely a block is computed before its candidates are scored exactly."""

import time
from dataclasses import dataclass

import torch

FLOAT32_UNIT = 2.0**-24

PROBE_SIZE = 512
PROBE_REPEATS = 5
WORTHWHILE_SPEEDUP = 1.5
"""How much faster bfloat16 has to be: its wider bound lets more pairs through to exact scoring."""


@dataclass(frozen=True)
class Precision:
    """The dtype of a tile's products, and the relative error allowed to low-rank forms."""

    dtype: torch.dtype
    low_rank_tolerance: float

    @property
    def unit(self) -> float:
        """Return the unit roundoff of the dtype."""
        return torch.finfo(self.dtype).eps / 2


SCREENING_BFLOAT16 = Precision(torch.bfloat16, 2e-2)
SCREENING_FLOAT32 = Precision(torch.float32, 2e-2)
FULL = Precision(torch.float32, 1e-7)
"""For the dense matrix: errors of float32 arithmetic only."""


def screening_precision(device: torch.device | str) -> Precision:
    """Return the faster screening on this device, by timing: bfloat16 where the hardware multiplies it, else float32.

    The choice is one of speed alone: whatever passes screening is scored as exactly as its contraction can.
    """
    narrow, wide = (_product_seconds(dtype, device) for dtype in (torch.bfloat16, torch.float32))
    return SCREENING_BFLOAT16 if narrow * WORTHWHILE_SPEEDUP < wide else SCREENING_FLOAT32


def _product_seconds(dtype: torch.dtype, device: torch.device | str) -> float:
    values = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=dtype, device=device)
    seconds = []
    for _ in range(PROBE_REPEATS):
        start = time.perf_counter()
        # Reading one number waits for the product, which a GPU computes in the background.
        float((values @ values)[0, 0])
        seconds.append(time.perf_counter() - start)
    return min(seconds)
