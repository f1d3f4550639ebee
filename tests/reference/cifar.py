"""CIFAR-10's published files written byte by byte, for tests of the readers.

The pickles are put together from opcodes as Python 2 wrote them (protocol 2, text as bytes, numpy's old names).
"""

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

TITLES = {f"data_batch_{number}": f"training batch {number} of 5" for number in range(1, 6)}
TITLES["test_batch"] = "testing batch 1 of 1"

Rows = tuple[NDArray[np.uint8], list[int]]
"""Images [N, 3072] and labels of one batch."""

STOP = b"."


def made_up_batches(rows: int, *, seed: int = 0) -> dict[str, Rows]:
    """Return random images and labels by the batches' names."""
    generator = np.random.default_rng(seed)
    return {
        name: (generator.integers(0, 256, (rows, 3072), np.uint8), generator.integers(0, 10, rows).tolist())
        for name in TITLES
    }


def text(value: str) -> bytes:
    """Opcode of a str of Python 2."""
    return b"U" + bytes([len(value)]) + value.encode()


def number(value: int) -> bytes:
    """Opcode of an int."""
    return b"J" + struct.pack("<i", value)


def array(values: NDArray[np.uint8], kind: str = "u1") -> bytes:
    """Opcodes of a numpy array: remade empty, then given its state."""
    shape = b"(" + b"".join(map(number, values.shape)) + b"t"
    made = b"cnumpy.core.multiarray\n_reconstruct\n" + b"cnumpy\nndarray\n" + number(0) + b"\x85" + text("b") + b"\x87R"
    dtype = b"cnumpy\ndtype\n" + text(kind) + number(0) + number(1) + b"\x87R"
    dtype += b"(" + number(3) + text("|") + b"NNN" + number(-1) + number(-1) + number(0) + b"tb"
    content = b"T" + struct.pack("<i", values.nbytes) + values.tobytes()
    return made + b"(" + number(1) + shape + dtype + b"\x89" + content + b"tb"


def items(values: list[bytes]) -> bytes:
    """Opcodes of a list."""
    return b"](" + b"".join(values) + b"e"


def mapping(entries: dict[str, bytes]) -> bytes:
    """A whole pickle of a dict of text to opcodes."""
    return b"\x80\x02}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u" + STOP


def python_batch(rows: Rows, title: str) -> bytes:
    """Return a batch of the python version."""
    images, labels = rows
    content = {"batch_label": text(title), "labels": items([number(label) for label in labels]), "data": array(images)}
    return mapping({**content, "filenames": items([text(f"thing_s_{row:06d}.png") for row in range(len(labels))])})


def python_meta(rows: int, names: list[str] = NAMES) -> bytes:
    """Return ``batches.meta``."""
    counts = {"num_cases_per_batch": number(rows), "num_vis": number(3072)}
    return mapping({**counts, "label_names": items([text(name) for name in names])})


def binary_batch(rows: Rows) -> bytes:
    """Return a batch of the binary version."""
    images, labels = rows
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


def python_files(batches: dict[str, Rows]) -> dict[str, bytes]:
    """Return the files of the python version by name."""
    files = {name: python_batch(rows, TITLES[name]) for name, rows in batches.items()}
    return {**files, "batches.meta": python_meta(len(batches["test_batch"][1]))}


def binary_files(batches: dict[str, Rows]) -> dict[str, bytes]:
    """Return the files of the binary version by name."""
    files = {f"{name}.bin": binary_batch(rows) for name, rows in batches.items()}
    return {**files, "batches.meta.txt": ("\n".join(NAMES) + "\n\n").encode()}


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Write every file into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def write_archive(path: Path, folder: str, files: dict[str, bytes]) -> None:
    """Write the files below ``folder`` of a gzipped tar archive, in an order of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name in ["readme.html", *reversed(files)]:
            data = files.get(name, b"<html>")
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
