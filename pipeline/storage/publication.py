"""How a file appears whole: its bytes go to a partial file first, which one step then makes visible."""

import io
import os
import posixpath
import secrets
import tempfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

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

_EXCLUSIVE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"})
"""Protocols where a file can be made on the condition that there is none."""


class Guard(Protocol):
    """Who may publish: ``token`` names the writer in proofs."""

    @property
    def token(self) -> str:
        """Return the name."""
        ...

    def require(self) -> None:
        """Raise ClaimError where nothing may be published."""
        ...


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
    return _has_protocol(file_system, _OBJECT_STORES)


def _has_protocol(file_system: Any, known: frozenset[str]) -> bool:
    protocols = {file_system.protocol} if isinstance(file_system.protocol, str) else set(file_system.protocol)
    return bool(protocols & known)


def _partial_name(name: str) -> str:
    return f".{name}.{secrets.token_hex(8)}{PARTIAL_SUFFIX}"


def create_partial(target: str) -> Path:
    """Create an empty file beside a local target: a rename within a folder is one step."""
    folder, name = os.path.split(target)
    os.makedirs(folder, exist_ok=True)
    partial = Path(folder) / _partial_name(name)
    partial.touch(exist_ok=False)
    return partial


def open_partial(file_system: Any, target: str) -> tuple[BinaryIO, Path]:
    """Open the local file that takes the bytes, and return it with its path.

    Beside a local target it has a name, which its owner removes. What is uploaded waits in the temporary folder without
    one, so that nothing of it is left where a process is killed.
    """
    if is_local(file_system):
        partial = create_partial(target)
        return open(partial, "wb"), partial
    waiting = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - the caller closes it
    return waiting, Path(f"/proc/self/fd/{waiting.fileno()}")


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


def create(file_system: Any, target: str, data: bytes) -> bool:
    """Make a small file appear in one step, only where none is; return whether it did.

    Where a file system can't do that it is looked first; ``creates_exclusively`` tells.
    """
    file_system.invalidate_cache()
    try:
        if is_local(file_system):
            _link_new(target, data)
        elif creates_exclusively(file_system):
            file_system.pipe_file(target, data, mode="create")
        elif file_system.exists(target):
            return False
        else:
            file_system.makedirs(posixpath.dirname(target), exist_ok=True)
            file_system.pipe_file(target, data)
    except FileExistsError:
        file_system.invalidate_cache()
    try:
        # Read back: a request whose answer was lost is repeated, and then finds its own file.
        return bool(file_system.cat_file(target) == data)
    except FileNotFoundError:
        return False


def creates_exclusively(file_system: Any) -> bool:
    """Return whether two writers can't both make the same new file."""
    return is_local(file_system) or _has_protocol(file_system, _EXCLUSIVE)


def _link_new(target: str, data: bytes) -> None:
    partial = create_partial(target)
    try:
        partial.write_bytes(data)
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:
        # A file system without links: the file then shows for a moment before its contents do.
        with open(target, "xb") as file:
            file.write(data)
    finally:
        partial.unlink()


def _upload(file_system: Any, partial: Path, target: str) -> None:
    if partial.stat().st_size <= SINGLE_PUT_BYTES or "memory" in file_system.protocol:
        file_system.pipe_file(target, partial.read_bytes())
    else:
        file_system.put_file(str(partial), target)
