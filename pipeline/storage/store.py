"""A folder on any file system, to which files are published whole or not at all."""

import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, BinaryIO, cast

import fsspec

from relatif.pipeline.storage.addresses import resolved, size_untold, unknown_protocol
from relatif.pipeline.storage.publication import (
    PARTIAL_SUFFIX,
    Guard,
    HashingFile,
    Publication,
    commit,
    create,
    creates_exclusively,
    is_local,
    is_object_store,
    open_partial,
)
from relatif.schemas.errors import RelatifError, StorageError, without_credentials
from relatif.schemas.manifest import FileReceipt

WHOLE_BYTES = 16 * 2**20
"""Up to this size a file is hashed from one read; it is the piece by which larger ones are read."""


@dataclass(frozen=True)
class Store:
    """A folder on any fsspec file system. It holds only its address, so it can be pickled and hashed.

    Paths are relative, with ``/``. Every method raises StorageError, naming the full address, when the file system
    refuses or fails.
    """

    url: str
    claim: Guard | None = field(default=None, repr=False)
    """Asked before each publication and deletion, where there is one."""

    @property
    def is_local(self) -> bool:
        """Whether the folder is on a file system of this machine."""
        return "://" not in self.url

    def child(self, path: str) -> "Store":
        """Return the folder ``path`` below this one.

        >>> Store("s3://bucket/run").child("tables/top_k")
        Store(url='s3://bucket/run/tables/top_k')
        """
        return replace(self, url=self._address(path))

    def describe(self, path: str = "") -> str:
        """Return the full address for messages, without credentials.

        >>> Store("ftp://name:password@host/run").describe("run.json")
        'ftp://host/run/run.json'
        """
        return without_credentials(self._address(path))

    def exists(self, path: str) -> bool:
        """Return whether a file or folder is there."""
        return self._info(path) is not None

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None where there is no file. StorageError where a server does not tell it."""
        info = self._info(path)
        if info is not None and info["type"] == "file" and info["size"] is None:
            raise size_untold(self.describe(path))
        return None if info is None or info["type"] != "file" else int(info["size"])

    def read_bytes(self, path: str) -> bytes:
        """Return a file's contents."""
        file_system, target = self._locate(path)
        with self._explained("read", path):
            return bytes(file_system.cat_file(target))

    def find_bytes(self, path: str) -> bytes | None:
        """Return a file's contents; None where there is no file."""
        file_system, target = self._locate(path)
        with self._explained("read", path):
            try:
                return bytes(file_system.cat_file(target))
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None

    def measure(self, path: str, *, about: int) -> tuple[int, str] | None:
        """Return a file's size and SHA-256 (hex), None where there is no file; ``about`` is the size that is expected.

        A large file is read piece by piece.
        """
        if about <= WHOLE_BYTES:
            data = self.find_bytes(path)
            return None if data is None else (len(data), sha256(data).hexdigest())
        if self.size(path) is None:
            return None
        hashed, size = sha256(), 0
        with self.open(path) as file, self._explained("read", path):
            while piece := file.read(WHOLE_BYTES):
                hashed.update(piece)
                size += len(piece)
        return size, hashed.hexdigest()

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading; the file can be sought, so that pyarrow reads only what it needs."""
        file_system, target = self._locate(path)
        with self._explained("read", path):
            if is_local(file_system):
                return open(target, "rb")
            # pyarrow asks for whole column chunks; reading ahead would fetch others' rows.
            options = {"cache_type": "none"} if is_object_store(file_system) else {}
            return cast(BinaryIO, file_system.open(target, "rb", **options))

    def list(self, path: str, suffix: str = "") -> list[str]:
        """Return the sorted paths (relative to this store) of the finished files directly below ``path``.

        A symbolic link counts as what it points to; StorageError where that is not there.
        """
        file_system, target = self._locate(path)
        with self._explained("list", path):
            file_system.invalidate_cache()  # other processes write here too
            try:
                entries = file_system.ls(target, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return []
        named = ((posixpath.basename(entry["name"].rstrip("/")), entry) for entry in entries)
        wanted = [(name, e) for name, e in named if name.endswith(suffix) and not name.endswith(PARTIAL_SUFFIX)]
        return sorted(posixpath.join(path.strip("/"), name) for name, entry in wanted if _is_file(entry))

    def walk(self) -> tuple[str, ...]:
        """Return the sorted paths of all finished files below this store, however deep."""
        file_system, target = self._locate("")
        with self._explained("list", ""):
            file_system.invalidate_cache()
            found = file_system.find(target)
        places = (posixpath.relpath(path, target) for path in found)
        return tuple(sorted(path for path in places if not path.endswith(PARTIAL_SUFFIX)))

    def folders(self, path: str) -> tuple[str, ...]:
        """Return the sorted paths of the folders directly below ``path``, and of links to one."""
        file_system, target = self._locate(path)
        with self._explained("list", path):
            try:
                entries = file_system.ls(target, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return ()
        names = [posixpath.basename(entry["name"].rstrip("/")) for entry in entries if _is_folder(entry)]
        return tuple(sorted(posixpath.join(path.strip("/"), name) for name in names))

    def delete(self, path: str) -> None:
        """Remove a file or a folder with all below it; nothing happens where there is none."""
        self._require_claim()
        file_system, target = self._locate(path)
        with self._explained("delete", path), suppress(FileNotFoundError):
            if not is_local(file_system):
                file_system.invalidate_cache()
                file_system.rm(target, recursive=True)
            elif os.path.isdir(target) and not os.path.islink(target):
                shutil.rmtree(target)
            else:
                os.unlink(target)

    def delete_empty(self, path: str) -> None:
        """Remove a local folder that holds nothing; elsewhere folders are no more than the names of files."""
        file_system, target = self._locate(path)
        if is_local(file_system):
            with suppress(OSError):
                os.rmdir(target)

    @property
    def creates_exclusively(self) -> bool:
        """Whether of two writers that make the same new file only one succeeds."""
        return creates_exclusively(self._locate("")[0])

    def create_bytes(self, path: str, data: bytes) -> bool:
        """Write a small new file; return False where one is there already."""
        file_system, target = self._locate(path)
        with self._explained("write", path):
            return create(file_system, target, data)

    def publish_bytes(self, path: str, data: bytes) -> FileReceipt:
        """Write a whole file: readers see the old contents or the new ones, never a part."""
        with self.publish(path) as publication:
            publication.file.write(data)
        return publication.receipt

    @contextmanager
    def publish(self, path: str) -> Iterator[Publication]:
        """Write a file that appears, whole, when the block ends; after an exception nothing changes.

        The publication's ``file`` takes bytes in order (it can't be sought); its ``receipt`` (path relative to this
        store, bytes, SHA-256) is there after the block.
        """
        file_system, target = self._locate(path)
        with self._explained("write", path):
            raw, partial = open_partial(file_system, target)
        try:
            hashing = HashingFile(raw, self.describe(path))
            publication = Publication(cast(BinaryIO, hashing))
            yield publication
            with self._explained("write", path):
                raw.flush()
                os.fsync(raw.fileno())
            self._require_claim()
            with self._explained("write", path):
                commit(file_system, partial, target)
        finally:
            # What a full disk refused was told: closing only tries it once more.
            with suppress(OSError):
                raw.close()
            if is_local(file_system):
                partial.unlink(missing_ok=True)
        publication.finish(FileReceipt(path=path, bytes=hashing.count, sha256=hashing.hashed.hexdigest()))

    def _require_claim(self) -> None:
        if self.claim is not None:
            self.claim.require()

    def _address(self, path: str) -> str:
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if path.startswith("/") or ".." in parts:
            raise StorageError(f"expected a path below {self.url}, found {path!r}; give a relative path without '..'")
        if not parts:
            return self.url
        # In a chained URL (simplecache::s3://bucket) the folder belongs to the first link that has an address.
        links = self.url.split("::")
        place = next((i for i, link in enumerate(links) if "://" in link), 0)
        links[place] += ("" if links[place].endswith("/") else "/") + "/".join(parts)
        return "::".join(links)

    def _locate(self, path: str) -> tuple[Any, str]:
        address = self._address(path)
        try:
            file_system, target = fsspec.core.url_to_fs(address)
        except (ImportError, ValueError) as error:
            raise unknown_protocol(address, error) from error
        except Exception as error:  # some file systems connect as soon as they are named
            raise StorageError(
                f"expected to reach {address}, found {type(error).__name__}: {error}; check host, port and user, and "
                f"whether the server runs"
            ) from error
        return file_system, target

    def _info(self, path: str) -> dict[str, Any] | None:
        file_system, target = self._locate(path)
        with self._explained("look at", path):
            file_system.invalidate_cache()
            try:
                return cast(dict[str, Any], file_system.info(target))
            except (FileNotFoundError, NotADirectoryError):
                return None

    @contextmanager
    def _explained(self, action: str, path: str) -> Iterator[None]:
        address = self.describe(path)
        try:
            yield
        except RelatifError:
            raise
        except Exception as error:  # each file system has errors of its own
            if isinstance(error, FileNotFoundError) and action == "read":
                raise StorageError(f"expected a file at {address}, found none; check the address") from error
            found = f"{type(error).__name__}: {error}"
            raise StorageError(
                f"expected to {action} {address}, found {found}; check address, rights and space"
            ) from error


def open_store(url: str | os.PathLike[str]) -> Store:
    """Return the store at a local path (made absolute), a ``file://`` URL (made a path) or any fsspec URL.

    Raises ConfigurationError for an address that is none: see ``addresses.resolved``.
    """
    return Store(resolved(os.fspath(url)))


def _is_folder(entry: dict[str, Any]) -> bool:
    return os.path.isdir(entry["name"]) if entry.get("islink") else bool(entry["type"] == "directory")


def _is_file(entry: dict[str, Any]) -> bool:
    """Return whether an entry of a folder is a file, or a link to one."""
    if not entry.get("islink"):
        return bool(entry["type"] == "file")
    if not os.path.exists(entry["name"]):
        raise StorageError(
            f"expected what the symbolic link {entry['name']} points to, found nothing at "
            f"{os.fsdecode(entry.get('destination') or '')}; fetch it again or remove the link"
        )
    return os.path.isfile(entry["name"])
