"""The device that computes, a processor's cores or a GPU, and what depends on it. No other file asks which it is."""

import ctypes
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from relatif.pipeline.parallel import single_threaded_pool

CPU = "cpu"
CUDA = "cuda"

CPU_PIECE_BYTES = 16 * 2**20
"""Budget of a piece's layer inputs and outputs: about a processor's last-level cache."""
GPU_PIECE_BYTES = 2**30
"""GPU budget of a piece: large batches, a fraction of its memory."""

HELD_BYTES = 512 * 2**20
"""Budget of the gradients of the training examples that are explained at once, on any device: scores are summed in
products whose shape depends on it."""

CPU_TILE_ROWS = 512
"""Query rows of a tile on a processor: a tile and what it is made of stay within the caches."""
CPU_LEAST_ROWS, CPU_TILES = 64, 4
"""Of fewer queries the tiles are so many, that the cores share them, and not lower than is worth a product."""


Tell = Callable[[float | None, str], None]
"""Says how far a piece of work is: a share from 0 to 1 (None: unknown), and a text for the log."""


def tell_nobody(share: float | None, text: str) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Worker:
    """What one process computes with: ``threads`` cores, and a device that holds models and gradients.

    ``tell`` is how its work says how far it is.
    """

    threads: int = 1
    device: str = CPU
    tell: Tell = field(default=tell_nobody, compare=False)

    @property
    def width(self) -> int:
        """Number of threads that compute at once: all cores of a processor, or the one that feeds a GPU."""
        return self.threads if on_cpu(self.device) else 1

    def pool(self) -> ThreadPoolExecutor:
        """Return a new pool of ``width`` threads, each with one core of torch."""
        return single_threaded_pool(self.width)

    def tile_rows(self, rows: int) -> int:
        """Return how many of ``rows`` query rows are computed at once."""
        if not on_cpu(self.device):
            return rows
        # Not by the number of threads: products of another shape may round differently.
        return min(CPU_TILE_ROWS, rows, max(CPU_LEAST_ROWS, -(-rows // CPU_TILES)))


def device_for(gpus: float) -> str:
    """Return the device of work that is given so many GPUs."""
    return CUDA if gpus else CPU


def on_cpu(device: torch.device | str) -> bool:
    """Return whether a device is the processor."""
    return torch.device(device).type == CPU


def piece_bytes(device: torch.device | str) -> int:
    """Return how many bytes the layer inputs and outputs of one piece of examples may take."""
    return CPU_PIECE_BYTES if on_cpu(device) else GPU_PIECE_BYTES


def give_back_memory() -> None:
    """Give what nobody holds any more back to the machine: models and graphs in circles, and free pages."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library than glibc
        ctypes.CDLL(None).malloc_trim(0)


def use_plain_arithmetic() -> None:
    """Turn off TF32 and sums in bfloat16 on GPUs: error bounds assume plain arithmetic."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
