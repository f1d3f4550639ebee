"""Reader of IDX files, the form in which MNIST is published (big-endian; gzipped or plain).

Layout: two zero bytes, one byte for the type, one for the number of axes, four bytes for the length of each axis,
then the values in C order.
"""

import gzip
import io
import math
import zlib
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

MOST_AXES = 32

UNPACKED_BYTES, UNPACKED_SHARE = 256 * 2**20, 100
"""What a gzip file may unpack to: so many bytes, or so many times its own; a small file can fill any memory."""

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_IMAGE_AXES, _LABEL_AXES = 3, 1


def find_idx(store: Store, stem: str, axes: int) -> str | None:
    """Return the path of ``<stem>-idx<axes>-ubyte`` or ``<stem>.idx<axes>-ubyte``, with or without ``.gz``, or None."""
    names = [f"{stem}{joint}idx{axes}-ubyte{ending}" for joint in "-." for ending in (".gz", "")]
    return next((name for name in names if store.size(name) is not None), None)


def parse_idx(data: bytes, origin: str) -> NDArray[np.generic]:
    """Return the array of an IDX file's bytes (plain or gzipped); DataError naming ``origin`` for anything else."""
    plain = _unpacked(data, origin)
    header = plain[:4]
    if len(header) < 4 or header[:2] != b"\0\0" or header[2] not in _TYPES or not 1 <= header[3] <= MOST_AXES:
        raise DataError(
            f"expected an IDX file (00 00, type, axes) at {origin}, found one that begins with {header.hex(' ')!r}; "
            f"fetch the file again"
        )
    dtype, start = np.dtype(_TYPES[header[2]]), 4 + 4 * header[3]
    if len(plain) < start:
        raise DataError(
            f"expected the lengths of {header[3]} axes at {origin}, "
            f"found the end of the file (truncated); fetch the file again"
        )
    shape = tuple(np.frombuffer(plain, ">u4", header[3], offset=4).tolist())
    expected = start + math.prod(shape) * dtype.itemsize
    if len(plain) != expected:
        fault = "truncated" if len(plain) < expected else "too long"
        raise DataError(
            f"expected {expected} bytes for an array of shape {shape} at {origin}, found {len(plain)} ({fault}); "
            f"fetch the file again"
        )
    try:
        return np.frombuffer(plain, dtype, offset=start).reshape(shape)
    except ValueError as error:  # no values, of lengths whose product is beyond all numbers
        raise DataError(
            f"expected lengths that an array can have at {origin}, found {shape}; fetch the file again"
        ) from error


def read_images(store: Store, stem: str, shape: tuple[int, int]) -> tuple[NDArray[np.uint8], FileReceipt]:
    """Return uint8 [N, *shape] of ``<stem>-idx3-ubyte`` and the file's receipt; DataError for anything else."""
    array, receipt = _read(store, stem, _IMAGE_AXES)
    if array.shape[1:] != shape:
        raise DataError(
            f"expected images of {shape[0]} x {shape[1]} pixels in {store.describe(receipt.path)}, "
            f"found {' x '.join(map(str, array.shape[1:]))}; give the right file"
        )
    return array, receipt


def read_labels(store: Store, stem: str, classes: int) -> tuple[NDArray[np.uint8], FileReceipt]:
    """Return uint8 [N], each below ``classes``, of ``<stem>-idx1-ubyte`` and the receipt; DataError otherwise."""
    array, receipt = _read(store, stem, _LABEL_AXES)
    wrong = np.flatnonzero(array >= classes)
    if wrong.size:
        raise DataError(
            f"expected labels from 0 to {classes - 1} in {store.describe(receipt.path)}, "
            f"found {array[wrong[0]]} in row {wrong[0]}; give the right file"
        )
    return array, receipt


def _read(store: Store, stem: str, axes: int) -> tuple[NDArray[np.uint8], FileReceipt]:
    path = find_idx(store, stem, axes)
    if path is None:
        raise DataError(
            f"expected {stem}-idx{axes}-ubyte or {stem}-idx{axes}-ubyte.gz in {store.describe()}, found neither; "
            f"add the file or correct the address"
        )
    data = store.read_bytes(path)
    array = parse_idx(data, store.describe(path))
    if array.ndim != axes or array.dtype != np.uint8:
        raise DataError(
            f"expected unsigned bytes with {axes} axes in {store.describe(path)}, "
            f"found {array.dtype} with {array.ndim}: the file is not what its name says; give the right one"
        )
    return array.astype(np.uint8, copy=False), FileReceipt(path=path, bytes=len(data), sha256=sha256(data).hexdigest())


def _unpacked(data: bytes, origin: str) -> bytes:
    # By content, because some servers and browsers unpack a .gz and keep its name.
    if not data.startswith(_GZIP_MAGIC):
        return data
    limit = max(UNPACKED_BYTES, UNPACKED_SHARE * len(data))
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            plain = file.read(limit + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"expected a whole gzip file at {origin}, found a truncated or damaged one ({error}); fetch the file again"
        ) from error
    if len(plain) > limit:
        raise DataError(
            f"expected at most {limit} bytes in the gzip file at {origin}, found more; "
            f"unpack it yourself if it is right"
        )
    return plain
