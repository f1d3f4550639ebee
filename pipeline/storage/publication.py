"""How a file appears whole: its bytes go to a partial file first, which one step then makes visible."""

import io
import os
import posixpath
import secrets
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

from fsspec.implementations.local import LocalFileSystem

from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt

PARTIAL_SUFFIX = ".partial"
"""End of the names of unfinished files: no reader looks for it."""

SINGLE_PUT_BYTES = 32 * 2**20
"""Up to this size a file goes to an object store from memory, by one request."""

_OBJECT_STORES = frozenset(
    {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "tos", "r2", "hf", "memory"}
)
"""Protocols where a file appears only when its upload is complete."""


class Publication:
    """A file being written: ``file`` takes the bytes, ``receipt`` is there once the file is published."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self._receipt: FileReceipt | None = None

    @property
    def receipt(self) -> FileReceipt:
        """What was published; StorageError before that."""
        if self._receipt is None:
            raise StorageError("expected a published file, found one that is still written; ask after the with block")
        return self._receipt

    def finish(self, receipt: FileReceipt) -> None:
        """Record what was published; the store calls it."""
        self._receipt = receipt


class HashingFile(io.RawIOBase):
    """Passes bytes on to another file, counting and hashing them; closing it leaves that file open."""

    def __init__(self, target: BinaryIO, address: str) -> None:
        self._target, self._address = target, address
        self.count, self.hashed = 0, sha256()

    def writable(self) -> bool:
        """Bytes go in."""
        return True

    def tell(self) -> int:
        """Bytes so far."""
        return self.count

    def write(self, data: Any, /) -> int:
        """Pass bytes on; StorageError where the disk refuses them."""
        view = memoryview(data).cast("B")
        try:
            self._target.write(view)
        except OSError as error:
            raise StorageError(f"expected to write {self._address}, found {error}; check rights and space") from error
        self.hashed.update(view)
        self.count += view.nbytes
        return view.nbytes


def is_local(file_system: Any) -> bool:
    """Return whether a file system is this machine's own."""
    return isinstance(file_system, LocalFileSystem)


def is_object_store(file_system: Any) -> bool:
    """Return whether files appear there only when their upload is complete."""
    protocols = {file_system.protocol} if isinstance(file_system.protocol, str) else set(file_system.protocol)
    return bool(protocols & _OBJECT_STORES)


def _partial_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"


def create_partial(file_system: Any, target: str) -> Path:
    """Create the empty local file that takes the bytes: beside a local target, else in the temporary folder."""
    folder, name = os.path.split(target) if is_local(file_system) else (tempfile.gettempdir(), "upload")
    os.makedirs(folder, exist_ok=True)
    partial = Path(folder) / _partial_name(name)
    partial.touch(exist_ok=False)
    return partial


def commit(file_system: Any, partial: Path, target: str) -> None:
    """Make a complete local file appear as ``target`` in one step."""
    if is_local(file_system):
        os.replace(partial, target)
        return
    if is_object_store(file_system):
        _upload(file_system, partial, target)
        return
    # A plain remote file system (SFTP, HDFS) shows a file while it grows: upload beside it, then rename.
    folder, name = posixpath.split(target)
    beside = posixpath.join(folder, _partial_name(name))
    file_system.makedirs(folder, exist_ok=True)
    try:
        _upload(file_system, partial, beside)
        if file_system.exists(target):
            file_system.rm(target)
        file_system.mv(beside, target)
    except BaseException:
        with suppress(Exception):
            file_system.rm(beside)
        raise


def _upload(file_system: Any, partial: Path, target: str) -> None:
    if partial.stat().st_size <= SINGLE_PUT_BYTES or "memory" in file_system.protocol:
        file_system.pipe_file(target, partial.read_bytes())
    else:
        file_system.put_file(str(partial), target)
