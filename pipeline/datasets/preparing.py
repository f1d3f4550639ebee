"""What every reader of a published format shares: receipts of source files, and writing only what is missing."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import Split, Subject, read_description
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset
from relatif.pipeline.datasets.writing import ROWS_PER_GROUP, write_chunks
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import FileReceipt

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Published:
    """A published data set as it was read: what it is, and its rows in chunks, which may be made while they are taken.

    ``rows`` are the numbers of rows of the splits, which are known before any chunk is made.
    """

    subject: Subject
    splits: Mapping[Split, Iterable[Chunk]]
    rows: Mapping[Split, int]
    rows_per_group: int = ROWS_PER_GROUP


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
    there = prepared_in(out, published.subject)
    if there is not None:
        return there
    write_chunks(out, published.subject, published.splits, rows_per_group=published.rows_per_group)
    return open_dataset(out)


def prepared_in(out: Store, subject: Subject) -> PreparedDataset | None:
    """Return the data set if it lies whole in ``out`` already, else None; DataError where another one lies there."""
    try:
        there = read_description(out)
    except DataError:
        return None
    if there.name != subject.name:
        raise DataError(
            f"expected no data set or {subject.name} in {out.describe()}, found {there.name}; choose another folder"
        )
    if any(getattr(there, name) != getattr(subject, name) for name in Subject.model_fields):
        return None
    try:
        return open_dataset(out)
    except DataError:
        return None
