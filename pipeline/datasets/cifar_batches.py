"""Batches of CIFAR-10 as they are published: pickled dicts ("python version") and plain rows ("binary version").

Either form keeps an image as 3072 unsigned bytes: the red, green and blue planes, each row by row.
"""

import reprlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.pickles import as_text, read_pickled_dict
from relatif.schemas.errors import DataError

CLASSES = 10
IMAGE_SHAPE = (3, 32, 32)

_IMAGE_BYTES = 3 * 32 * 32
_ROW_BYTES = 1 + _IMAGE_BYTES


@dataclass(frozen=True, eq=False)
class CifarBatch:
    """Images uint8 [N, 3, 32, 32] and labels uint8 [N] of one file; ``title`` is the file's own."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    title: str | None = None


@dataclass(frozen=True)
class BatchesMeta:
    """Names of the classes, and rows of a batch where the file gives them."""

    class_names: tuple[str, ...]
    rows: int | None = None


def parse_python_batch(data: bytes, origin: str) -> CifarBatch:
    """Return the batch of a pickled dict; DataError naming ``origin`` for anything else."""
    content = read_pickled_dict(data, origin)
    images, labels = content.get("data"), content.get("labels")
    if not isinstance(images, np.ndarray) or not isinstance(labels, list):
        raise DataError(
            f"expected an array 'data' and a list 'labels' at {origin}, found {', '.join(content) or 'nothing'}; "
            f"give a batch of CIFAR-10's python version"
        )
    if images.shape != (len(labels), _IMAGE_BYTES) or not labels:
        raise DataError(
            f"expected {_IMAGE_BYTES} bytes for each of at least 1 label at {origin}, "
            f"found data of shape {images.shape} and {len(labels)} labels; fetch the file again"
        )
    for row, label in enumerate(labels):
        if not isinstance(label, int) or not 0 <= label < CLASSES:
            raise _wrong_label(origin, row, label)
    title = content.get("batch_label")
    return CifarBatch(
        images.reshape(-1, *IMAGE_SHAPE),
        np.array(labels, np.uint8),
        None if title is None else as_text(title, origin),
    )


def parse_binary_batch(data: bytes, origin: str) -> CifarBatch:
    """Return the batch of rows of a label and an image; DataError naming ``origin`` for anything else."""
    if not data or len(data) % _ROW_BYTES:
        raise DataError(
            f"expected whole rows of {_ROW_BYTES} bytes at {origin}, found {len(data)} bytes "
            f"(truncated, or not CIFAR-10's binary version); fetch the file again"
        )
    rows = np.frombuffer(data, np.uint8).reshape(-1, _ROW_BYTES)
    wrong = np.flatnonzero(rows[:, 0] >= CLASSES)
    if wrong.size:
        raise _wrong_label(origin, int(wrong[0]), int(rows[wrong[0], 0]))
    return CifarBatch(rows[:, 1:].reshape(-1, *IMAGE_SHAPE), rows[:, 0])


def parse_python_meta(data: bytes, origin: str) -> BatchesMeta:
    """Return the contents of ``batches.meta``; DataError naming ``origin`` where it is not CIFAR-10's."""
    content = read_pickled_dict(data, origin)
    names, rows = content.get("label_names"), content.get("num_cases_per_batch")
    if not isinstance(names, list) or not (rows is None or isinstance(rows, int)):
        raise DataError(
            f"expected a list 'label_names' and a number 'num_cases_per_batch' at {origin}, "
            f"found {', '.join(content) or 'nothing'}; give CIFAR-10's batches.meta"
        )
    return BatchesMeta(_class_names([as_text(name, origin) for name in names], origin), rows)


def parse_binary_meta(data: bytes, origin: str) -> BatchesMeta:
    """Return the contents of ``batches.meta.txt``, a name in each line; DataError naming ``origin`` otherwise."""
    lines = as_text(data, origin).split("\n")
    return BatchesMeta(_class_names([line.strip() for line in lines if line.strip()], origin))


def _class_names(names: list[str], origin: str) -> tuple[str, ...]:
    if len(set(names)) != CLASSES or len(names) != CLASSES:
        raise DataError(
            f"expected the names of {CLASSES} classes at {origin}, found {len(names)}: {', '.join(names)}; "
            f"give the right file"
        )
    return tuple(names)


def _wrong_label(origin: str, row: int, label: object) -> DataError:
    return DataError(
        f"expected labels from 0 to {CLASSES - 1} at {origin}, found {reprlib.repr(label)} in row {row}; "
        f"give the right file"
    )
