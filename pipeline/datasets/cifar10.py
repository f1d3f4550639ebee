"""CIFAR-10, from its published batches: the python or the binary version, unpacked or in their archives.

Images are kept as they are published, uint8 [3, 32, 32]: channels red, green, blue, then rows, then columns.
"""

import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from statistics import mode

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.cifar_batches import (
    IMAGE_SHAPE,
    BatchesMeta,
    CifarBatch,
    parse_binary_batch,
    parse_binary_meta,
    parse_python_batch,
    parse_python_meta,
)
from relatif.pipeline.datasets.description import InputDescription, Split, Subject
from relatif.pipeline.datasets.preparing import Published, bytes_receipt, file_receipt
from relatif.pipeline.datasets.provenance import Provenance
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

NAME = "cifar10"

_TRAIN_BATCHES = 5

BATCH_BYTES = 64 * 2**20
"""More than any published batch has; a small archive can fill any memory."""


@dataclass(frozen=True)
class _Form:
    """One published version: where it lies, what its files are called, how they are read."""

    folder: str
    archive: str
    ending: str
    meta: str
    parse_batch: Callable[[bytes, str], CifarBatch]
    parse_meta: Callable[[bytes, str], BatchesMeta]

    @property
    def train(self) -> tuple[str, ...]:
        return tuple(f"data_batch_{number}{self.ending}" for number in range(1, _TRAIN_BATCHES + 1))

    @property
    def test(self) -> str:
        return f"test_batch{self.ending}"

    @property
    def files(self) -> tuple[str, ...]:
        return (*self.train, self.test, self.meta)

    def titles(self) -> dict[str, str]:
        """Title that each batch of the python version carries."""
        numbered = {name: f"training batch {number} of 5" for number, name in enumerate(self.train, start=1)}
        return {**numbered, self.test: "testing batch 1 of 1"}


_FORMS = (
    _Form("cifar-10-batches-py", "cifar-10-python.tar.gz", "", "batches.meta", parse_python_batch, parse_python_meta),
    _Form(
        "cifar-10-batches-bin",
        "cifar-10-binary.tar.gz",
        ".bin",
        "batches.meta.txt",
        parse_binary_batch,
        parse_binary_meta,
    ),
)


@dataclass(frozen=True)
class _Place:
    """A version that was found: the files' folder ("" is the source itself), or its archive."""

    form: _Form
    folder: str
    archive: str | None = None


@dataclass(frozen=True)
class _Content:
    """The parsed files of a version by their names, and the receipts of what was read."""

    batches: dict[str, CifarBatch]
    meta: BatchesMeta
    receipts: tuple[FileReceipt, ...]


def is_cifar10(source: Store) -> bool:
    """Return whether any file of either version is there; preparing then names the files that are missing."""
    return _locate(source) is not None


def read_cifar10(source: Store) -> Published:
    """Read CIFAR-10's published batches.

    The files may lie in ``source``, in the folder that the archives unpack to, or in an archive; the first that is
    found is taken, the python version before the binary one. Raises DataError, naming the file, for a missing,
    truncated, mislabelled or mismatched one.
    """
    place = _locate(source)
    if place is None:
        raise DataError(
            f"expected data_batch_1 to 5, test_batch and batches.meta, the same with .bin and .txt, or "
            f"{' or '.join(form.archive for form in _FORMS)} in {source.describe()}, found none; correct the address"
        )
    content = _read(source, place)
    form, batches = place.form, content.batches
    train, test = [_chunk(batches[name]) for name in form.train], [_chunk(batches[form.test])]
    rows: dict[Split, int] = {"train": sum(map(len, train)), "test": sum(map(len, test))}
    return Published(_subject(content), {"train": train, "test": test}, rows)


def _locate(source: Store) -> _Place | None:
    for form in _FORMS:
        for folder in ("", form.folder):
            if any(posixpath.basename(path) in form.files for path in source.list(folder)):
                return _Place(form, folder)
    there = source.list("")
    return next((_Place(form, form.folder, form.archive) for form in _FORMS if form.archive in there), None)


def _read(source: Store, place: _Place) -> _Content:
    form, batches, digests = place.form, dict[str, CifarBatch](), dict[str, str]()
    meta: BatchesMeta | None = None
    receipts = [] if place.archive is None else [file_receipt(source, place.archive)]
    for name, data in _files(source, place):
        origin = _origin(source, place, name)
        if name == form.meta:
            meta = form.parse_meta(data, origin)
        else:
            batches[name] = form.parse_batch(data, origin)
            digests[name] = sha256(data).hexdigest()
        if place.archive is None:
            receipts.append(bytes_receipt(posixpath.join(place.folder, name), data))
    missing = [name for name in (*form.train, form.test) if name not in batches]
    if meta is None or missing:
        absent = _origin(source, place, missing[0] if missing else form.meta)
        raise DataError(f"expected a file {absent}, found none; fetch the data set again")
    content = _Content({name: batches[name] for name in (*form.train, form.test)}, meta, tuple(receipts))
    _check_together(source, place, content, digests)
    return content


def _check_together(source: Store, place: _Place, content: _Content, digests: dict[str, str]) -> None:
    """Refuse files that are each in order but do not make up the data set."""
    titles = place.form.titles()
    # The binary version does not store how many rows a batch has: there the odd one out is the wrong one.
    rows = content.meta.rows or mode(len(batch.labels) for batch in content.batches.values())
    for name, batch in content.batches.items():
        if batch.title is not None and batch.title != titles[name]:
            raise DataError(
                f"expected {titles[name]!r} in {_origin(source, place, name)}, found {batch.title!r}: "
                f"the file is not what its name says; give the right one"
            )
        if len(batch.labels) != rows:
            reference = f"{place.form.meta} says" if content.meta.rows else "other batches have"
            raise DataError(
                f"expected {rows} rows, as {reference}, in {_origin(source, place, name)}, "
                f"found {len(batch.labels)} (truncated, or of another data set); fetch the file again"
            )
        twin = next(other for other, digest in digests.items() if digest == digests[name])
        if twin != name:
            raise DataError(
                f"expected different contents in {_origin(source, place, twin)} and {_origin(source, place, name)}, "
                f"found the same; give the right files"
            )


def _files(source: Store, place: _Place) -> Iterator[tuple[str, bytes]]:
    if place.archive is None:
        there = {posixpath.basename(path) for path in source.list(place.folder)}
        for name in place.form.files:
            if name in there:
                path = posixpath.join(place.folder, name)
                _require_size(source.size(path) or 0, source.describe(path))
                yield name, source.read_bytes(path)
        return
    try:
        with source.open(place.archive) as file, tarfile.open(fileobj=file, mode="r:gz") as archive:
            for member in archive:
                name = posixpath.basename(member.name)
                opened = archive.extractfile(member) if member.isfile() and name in place.form.files else None
                if opened is not None:
                    _require_size(member.size, _origin(source, place, name))
                    yield name, opened.read()
    except (tarfile.TarError, EOFError, OSError, OverflowError, ValueError, zlib.error) as error:
        raise DataError(
            f"expected a whole archive at {source.describe(place.archive)}, "
            f"found a truncated or damaged one ({error}); fetch the file again"
        ) from error


def _require_size(found: int, origin: str) -> None:
    if found > BATCH_BYTES:
        raise DataError(f"expected at most {BATCH_BYTES} bytes in {origin}, found {found}; give the published file")


def _origin(source: Store, place: _Place, name: str) -> str:
    return source.describe(posixpath.join(place.archive or "", place.folder, name))


def _chunk(batch: CifarBatch) -> Chunk:
    return Chunk(batch.images, batch.labels)


def _subject(content: _Content) -> Subject:
    return Subject(
        name=NAME,
        meaning="photographs of ten kinds of things, one row per image in the order of the published batches",
        input=InputDescription(column="image", dtype="uint8", shape=IMAGE_SHAPE, axes=("channel", "row", "column")),
        class_names=content.meta.class_names,
        provenance=Provenance(
            origin="CIFAR-10, by Alex Krizhevsky, Vinod Nair and Geoffrey Hinton",
            licence="none is stated; cite Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
            licence_url="https://www.cs.toronto.edu/~kriz/cifar.html",
            sources=content.receipts,
        ),
    )
