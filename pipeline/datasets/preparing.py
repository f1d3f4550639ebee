"""What every reader of a published format shares: receipts of source files, and writing only what is missing."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import DatasetDescription, Split, Subject, read_description
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.writing import ROWS_PER_GROUP, write_chunks
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Published:
    """A published data set as it was read: what it is, and its rows in chunks, which may be made while they are taken.

    ``rows`` are the numbers of rows of the splits, which are known before any chunk is made. ``files`` are the paths
    of the files that a split was read from, ``made_from`` digests of all that decides its rows, and ``ids`` read its
    identifiers, where these are told.
    """

    subject: Subject
    splits: Mapping[Split, Iterable[Chunk]]
    rows: Mapping[Split, int]
    rows_per_group: int = ROWS_PER_GROUP
    files: Mapping[Split, tuple[str, ...]] = field(default_factory=dict)
    made_from: Mapping[Split, str] = field(default_factory=dict)
    ids: Mapping[Split, Callable[[], Iterator[str]]] = field(default_factory=dict)


@dataclass(frozen=True)
class MadeAnew(Iterable[Chunk]):
    """Chunks that are made whenever they are taken, from the beginning."""

    make: Callable[[], Iterator[Chunk]]

    def __iter__(self) -> Iterator[Chunk]:
        return self.make()


def bytes_receipt(path: str, data: bytes) -> FileReceipt:
    """Return the receipt of a source file whose contents are at hand."""
    return FileReceipt(path=path, bytes=len(data), sha256=sha256(data).hexdigest())


def file_receipt(store: Store, path: str) -> FileReceipt:
    """Return the receipt of a source file, read piece by piece; StorageError where it can't be read."""
    hashed, size = sha256(), 0
    with store.open(path) as file:
        while piece := file.read(_READ_BYTES):
            hashed.update(piece)
            size += len(piece)
    return FileReceipt(path=path, bytes=size, sha256=hashed.hexdigest())


def prepare_once(out: Store, published: Published) -> PreparedDataset:
    """Write a data set to ``out`` unless it is there already; then no chunk is asked for.

    Raises DataError where ``out`` holds another data set, and what ``write_chunks`` raises.
    """
    there = prepared_in(out, published)
    if there is not None:
        return there
    write_chunks(
        out,
        published.subject,
        published.splits,
        rows_per_group=published.rows_per_group,
        made_from=published.made_from,
    )
    return open_dataset(out)


def prepared_in(out: Store, published: Published) -> PreparedDataset | None:
    """Return the data set if it lies whole in ``out`` already, else None; DataError where another one lies there."""
    there, subject = find_description(out), published.subject
    if there is None:
        return None
    if there.name != subject.name:
        raise DataError(
            f"expected no data set or {subject.name} in {out.describe()}, found {there.name}; choose another folder"
        )
    if not is_made_of(there, published):
        return None
    try:
        return open_dataset(out)
    except DataError:
        return None


def find_description(out: Store) -> DatasetDescription | None:
    """Return the description of the data set in ``out``, None where there is none that can be read."""
    try:
        return read_description(out)
    except DataError:
        return None


def is_made_of(there: DatasetDescription, published: Published) -> bool:
    """Return whether a data set is that of a published one: what it is, its source files, and each of its parts."""
    return not differing(there, published.subject) and set(published.splits) <= set(there.splits)


def differing(there: Subject, wanted: Subject) -> list[str]:
    """Return in what a data set is another one than is wanted: names of fields."""
    return [name for name in Subject.model_fields if getattr(there, name) != getattr(wanted, name)]
