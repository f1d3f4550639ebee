"""IDX files written byte by byte from the format's description, for tests of the reader."""

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Digits = dict[str, NDArray[np.uint8]]
"""Arrays by the published files' stems, such as ``train-images-idx3-ubyte``."""


def idx_bytes(array: NDArray[np.uint8]) -> bytes:
    """Return the IDX form of unsigned bytes."""
    lengths = b"".join(struct.pack(">I", length) for length in array.shape)
    return bytes([0, 0, 8, array.ndim]) + lengths + array.tobytes()


def made_up_digits(train: int, test: int, *, seed: int = 0) -> Digits:
    """Return random images and labels in the four arrays of MNIST."""
    generator = np.random.default_rng(seed)
    arrays: Digits = {}
    for prefix, rows in (("train", train), ("t10k", test)):
        arrays[f"{prefix}-images-idx3-ubyte"] = generator.integers(0, 256, (rows, 28, 28), np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte"] = generator.integers(0, 10, rows, np.uint8)
    return arrays


def write_digits(folder: Path, arrays: Digits) -> None:
    """Write every array gzipped, under its published name."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, array in arrays.items():
        (folder / f"{stem}.gz").write_bytes(gzip.compress(idx_bytes(array), mtime=0))
