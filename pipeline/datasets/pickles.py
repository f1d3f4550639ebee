"""Reader of pickles of plain data: dicts, lists, numbers, text, and numpy arrays of unsigned bytes.

A pickle is a program that may call anything it can name. Here it can name only what numpy writes for an array, and even
that stands for inert objects that keep their arguments: neither numpy nor anything else is called.
"""

import io
import math
import pickle
import reprlib
import struct

import numpy as np
from numpy.typing import NDArray

from relatif.schemas.errors import DataError

_ARRAY_MAKERS = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct")}
_UNSIGNED_BYTES = ("u1", "|u1", b"u1", b"|u1")

# Every error that broken or foreign bytes raise inside pickle.
_UNREADABLE = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    struct.error,
    TypeError,
    ValueError,
)


class _Inert:
    """Stands for an object that a pickle makes: it keeps the arguments and the state, both plain data."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


class _Array(_Inert):
    pass


class _Type(_Inert):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """Return the inert stand-in of one of the few names that are allowed."""
        if (module, name) in _ARRAY_MAKERS:
            return _Array
        if module == "numpy" and name == "dtype":
            return _Type
        if module == "numpy" and name == "ndarray":
            return object()  # only ever an argument: it can't be called
        raise pickle.UnpicklingError(f"a reference to {module}.{name}, which plain data does not need")


def read_pickled_dict(data: bytes, origin: str) -> dict[str, object]:
    """Return a pickled dict with keys as text and numpy arrays as uint8 arrays; Python 2's text comes as bytes.

    Raises DataError naming ``origin`` for a truncated pickle, one that names anything but an array, and anything that
    is not a dict of plain data.
    """
    try:
        found: object = _PlainUnpickler(io.BytesIO(data), encoding="bytes").load()
    except _UNREADABLE as error:
        fault = str(error) or type(error).__name__
        raise DataError(
            f"expected a pickle of plain data at {origin}, "
            f"found one that is truncated, damaged or not plain ({fault}); fetch the file again"
        ) from error
    if not isinstance(found, dict):
        raise DataError(f"expected a pickled dict at {origin}, found {type(found).__name__}; give the right file")
    return {as_text(key, origin): _plain(value, origin) for key, value in found.items()}


def as_text(value: object, origin: str) -> str:
    """Return text that was pickled by Python 2 or 3; DataError naming ``origin`` for anything else."""
    try:
        text = value.decode("utf-8") if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str):
        raise DataError(f"expected text at {origin}, found {reprlib.repr(value)}; give the right file")
    return text


def _plain(value: object, origin: str) -> object:
    if isinstance(value, _Array):
        return _unsigned_bytes(value.state, origin)
    if isinstance(value, _Inert):
        raise DataError(f"expected plain data at {origin}, found a bare numpy type; give the right file")
    return value


def _unsigned_bytes(state: object, origin: str) -> NDArray[np.uint8]:
    match state:
        case (_, tuple(shape), _Type(arguments=(code, *_)), fortran, bytes(values)) if (
            code in _UNSIGNED_BYTES
            and all(isinstance(length, int) and length >= 0 for length in shape)
            and math.prod(shape) == len(values)
        ):
            return np.frombuffer(values, np.uint8).reshape(shape, order="F" if fortran else "C")
        case _:
            raise DataError(
                f"expected an array of unsigned bytes as long as its shape says at {origin}, found another one; "
                f"give the right file"
            )
