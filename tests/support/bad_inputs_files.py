"""Files of published formats that have to be refused."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support.bad_inputs import Case, command

SOURCE = "source"


def published(name: str, make: Callable[[Path], object], expected: str, *settings: str) -> Case:
    """Return the case of published files that ``make`` writes into an empty folder."""

    def arguments(folder: Path) -> list[str]:
        (folder / SOURCE).mkdir()
        make(folder / SOURCE)
        return command(folder, f"data.source={folder / SOURCE}", *settings)

    return Case("data", name, arguments, expected)


def text(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return a change of the contents of a file."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def png(width: int = 6, height: int = 6, mode: str = "L") -> bytes:
    """Return an encoded image of one colour."""
    file = io.BytesIO()
    Image.new(mode, (width, height), 1).save(file, "PNG")
    return file.getvalue()


def image_table(labels: Any = (0, 1, 2), encoded: Any = None, **columns: Any) -> pa.Table:
    """Return rows as data set hubs publish images."""
    rows = [{"bytes": each, "path": None} for each in (encoded or [png()] * len(labels))]
    made = pa.array(labels) if not isinstance(labels, pa.Array) else labels
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.table({"image": pa.array(rows, kind), "label": made, **columns})


def hub(train: pa.Table, test: pa.Table | None = None, **more: pa.Table) -> Callable[[Path], None]:
    """Return a maker of image files: of both splits, and further ones by their names."""

    def make(folder: Path) -> None:
        pq.write_table(train, folder / "train.parquet")
        pq.write_table(image_table() if test is None else test, folder / "test.parquet")
        for name, table in more.items():
            pq.write_table(table, folder / f"{name.replace('_', '-')}.parquet")

    return make


def named(table: pa.Table, *names: str) -> pa.Table:
    """Return a table with the hub's names of its classes."""
    content = {"info": {"features": {"label": {"names": list(names)}}}}
    return table.replace_schema_metadata({"huggingface": json.dumps(content)})


def shards(*names: str) -> Callable[[Path], None]:
    """Return a maker of shards of the training set, and of a test set."""

    def make(folder: Path) -> None:
        for name in (*names, "test.parquet"):
            pq.write_table(image_table(), folder / name)

    return make


def idx(
    *, axes: tuple[int, ...] = (3, 28, 28), content: bytes | None = None, packed: bool = False
) -> Callable[[Path], None]:
    """Return a maker of MNIST's files, with training images of these lengths or contents."""

    def array(lengths: tuple[int, ...]) -> bytes:
        return bytes([0, 0, 8, len(lengths)]) + np.array(lengths, ">u4").tobytes()

    def make(folder: Path) -> None:
        images_of, labels_of = array((3, 28, 28)) + bytes(3 * 784), array((3,)) + bytes(3)
        for split in ("train", "t10k"):
            (folder / f"{split}-images-idx3-ubyte").write_bytes(images_of)
            (folder / f"{split}-labels-idx1-ubyte").write_bytes(labels_of)
        data = array(axes) + bytes(3 * 784) if content is None else content
        (folder / "train-images-idx3-ubyte").write_bytes(gzip.compress(data, 9) if packed else data)

    return make


def names(*, archive: dict[str, bytes] | None = None, **files: bytes) -> Callable[[Path], None]:
    """Return a maker of files of surnames, or of the archive with them."""

    def make(folder: Path) -> None:
        for name, content in files.items():
            (folder / f"{name}.txt").write_bytes(content)
        if archive is not None:
            with zipfile.ZipFile(folder / "data.zip", "w", zipfile.ZIP_DEFLATED) as file:
                for name, content in archive.items():
                    file.writestr(f"data/names/{name}.txt", content)

    return make


def write(path: Path) -> None:
    """Write three images."""
    pq.write_table(image_table(), path)


SURNAMES = ("task=names_lstm",)
IMAGE = "a whole PNG or JPEG image in row 1"

PUBLISHED = [
    published("a shard copied", shards("train-0-of-2.parquet", "train-1-of-2.parquet"), "found the same"),
    published("nothing there", lambda _: None, "a published format .*, found none of them"),
    published("a Parquet folder in place of a file", lambda folder: (folder / "train.parquet").mkdir(), "none of them"),
    published("only a training set", lambda folder: write(folder / "train.parquet"), "test.parquet or"),
    published(
        "a shard missing", shards("train-00000-of-00003.parquet", "train-00002-of-00003.parquet"), "number 00001"
    ),
    published(
        "a shard twice", shards("train-00000-of-00001-ab.parquet", "train-00000-of-00001-cd.parquet"), "00000 twice"
    ),
    published(
        "a broken link", lambda folder: (folder / "train.parquet").symlink_to("gone"), "points to, found nothing"
    ),
    published("labels of text", hub(image_table(["a", "b", "c"])), "exactly one integer column"),
    published("labels of float", hub(image_table([0.0, 1.0, 2.0])), "exactly one integer column"),
    published(
        "labels of a dictionary", hub(image_table(pa.array(["a", "b", "a"]).dictionary_encode())), "exactly one int"
    ),
    published(
        "labels beyond int64", hub(image_table(pa.array([0, 1, 2**64 - 1], pa.uint64()))), "class numbers in label"
    ),
    published("a label negative", hub(image_table([0, -1, 2])), "found -1 in row 1"),
    published("a label negative in the test set", hub(image_table(), image_table([0, 1, -1])), "found -1 in row 2"),
    published("a label missing", hub(image_table([0, None, 2])), "found none in row 1"),
    published(
        "a label beyond the names", hub(named(image_table(), "a", "b"), named(image_table(), "a", "b")), "from 0 to 1"
    ),
    published("two classes of one name in metadata", hub(named(image_table(), "a", "b", "a")), "a name of its own"),
    published(
        "files of other classes", hub(named(image_table(), *"abc"), named(image_table(), *"abd")), "same columns"
    ),
    published("a file without labels", hub(image_table().drop_columns("label")), "exactly one integer column"),
    published("a file without images", hub(image_table().drop_columns("image")), "exactly one struct column"),
    published("no training rows", hub(image_table(pa.array([], pa.int64()))), "at least 1 row of train"),
    published("no test rows", hub(image_table(), image_table(pa.array([], pa.int64()))), "at least 1 row of test"),
    published("images of two sizes", hub(image_table(encoded=[png(), png(6, 7), png()])), "found L of 6 x 7 in row 1"),
    published(
        "images of two modes", hub(image_table(encoded=[png(), png(mode="RGB"), png()])), "found RGB of 6 x 6 in row 1"
    ),
    published("an image missing", hub(image_table(encoded=[png(), None, png()])), "found none"),
    published("an image empty", hub(image_table(encoded=[png(), b"", png()])), IMAGE),
    published("an image cut", hub(image_table(encoded=[png(), png()[:-30], png()])), IMAGE),
    published("no image", hub(image_table(encoded=[png(), b"<svg/>", png()])), IMAGE),
    published("a column that is not there", hub(image_table()), "column named fine", "data.label_column=fine"),
    published("no Parquet", text("train.parquet", b"PAR1 nothing PAR1"), "a whole Parquet file|test.parquet"),
    published(
        "IDX of no length", idx(axes=(0, 28, 28), content=bytes([0, 0, 8, 3]) + bytes(12)), "28 x 28|at least one"
    ),
    published("IDX of a negative length", idx(axes=(2**32 - 1, 28, 28)), "bytes for an array of shape"),
    published("IDX of huge lengths", idx(axes=(2**32 - 1,) * 3), "bytes for an array of shape"),
    published("IDX of 255 axes", idx(axes=(1,) * 255), "an IDX file"),
    published("IDX cut", idx(content=bytes([0, 0, 8, 3, 0])), "the lengths of 3 axes"),
    published("IDX empty", idx(content=b""), "an IDX file"),
    published("gzip cut", idx(content=gzip.compress(bytes(1000))[:-9]), "a whole gzip file"),
    published(
        "gzip that fills the memory", idx(content=bytes(300 * 2**20), packed=True), "at most .* bytes in the gzip"
    ),
    published(
        "names: zip bomb of 100 MB", names(archive={"A": b"a" * 10**8, "B": b"Bo\nBi"}), "bytes of names", *SURNAMES
    ),
    published(
        "names: one of 10,000 letters", names(French=b"a" * 10**4, Irish=b"Bo\nBi"), "at most 1000 char", *SURNAMES
    ),
    published("names: one language", names(archive={"French": b"Bo\nBi"}), "at least 2 languages", *SURNAMES),
    published("names: one name", names(French=b"Bo", Irish=b"Bo\nBi"), "at least 2 names", *SURNAMES),
    published("names: not UTF-8", names(French=b"\xff\nBo", Irish=b"Bo\nBi"), "UTF-8 in line 1", *SURNAMES),
    published("names: no letter", names(French=b"Bo\n123", Irish=b"Bo\nBi"), "Latin letter in line 2", *SURNAMES),
    published("names: zip cut", text("data.zip", b"PK\x03\x04 nothing"), "a whole zip file", *SURNAMES),
    published("CIFAR: no pickle", text("data_batch_1", b"\x80\x04nothing"), "a pickle of plain data|expected a file"),
    published(
        "CIFAR: archive cut", text("cifar-10-python.tar.gz", gzip.compress(b"nothing")), "a whole archive|a file"
    ),
]
