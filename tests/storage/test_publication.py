"""The ways in which a complete file becomes visible on file systems that differ."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from relatif.pipeline.storage import publication
from relatif.pipeline.storage import store as store_module
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import StorageError
from relatif.schemas.tables import SOLUTIONS
from tests.support.runs import ROOT


class PlainRemote(AbstractFileSystem):  # type: ignore[misc]
    """A file system like SFTP: files grow in sight, and renaming does not replace."""

    protocol = "plainremote"
    seen: list[str] = []  # noqa: RUF012  fsspec keeps one instance; the test reads what it saw
    broken = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.disk = LocalFileSystem()

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(path).removeprefix("plainremote://")

    def _open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        if mode == "wb":
            self.seen.append(path)
        return open(path, mode)

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        return dict(self.disk.info(path))

    def ls(self, path: str, detail: bool = True, **_: Any) -> Any:
        return self.disk.ls(path, detail=detail)

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        os.makedirs(path, exist_ok=exist_ok)

    def _rm(self, path: str) -> None:
        os.unlink(path)

    def mv(self, path1: str, path2: str, **_: Any) -> None:
        assert not os.path.exists(path2), "this file system does not rename onto a file"
        if self.broken:
            raise OSError("connection lost")
        os.rename(path1, path2)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    fsspec.register_implementation("plainremote", PlainRemote, clobber=True)
    monkeypatch.setattr(PlainRemote, "seen", [])
    yield open_store(f"plainremote://{tmp_path}")
    PlainRemote.clear_instance_cache()


@pytest.mark.parametrize("limit", [10, 10**6], ids=["streamed", "in one piece"])
def test_a_plain_remote_file_appears_by_a_rename(plain: Store, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publication, "SINGLE_PUT_BYTES", limit)
    plain.publish_bytes("d/f.parquet", b"first, of more than ten bytes")
    plain.publish_bytes("d/f.parquet", b"second, of more than ten bytes")
    assert plain.read_bytes("d/f.parquet") == b"second, of more than ten bytes"
    assert plain.list("d") == ["d/f.parquet"]
    assert PlainRemote.seen
    assert all(path.endswith(".partial") for path in PlainRemote.seen)


def test_a_failed_rename_leaves_no_partial_file(plain: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlainRemote, "broken", True)
    with pytest.raises(Exception, match="connection lost"):
        plain.publish_bytes("d/f", b"1")
    assert list((tmp_path / "d").iterdir()) == []


def test_a_local_partial_file_lies_beside_its_target(tmp_path: Path) -> None:
    file, partial = publication.open_partial(LocalFileSystem(), str(tmp_path / "d/f.parquet"))
    file.close()
    assert partial.parent == tmp_path / "d"  # a rename within a folder is one step
    assert partial.suffix == ".partial"


def test_an_upload_that_is_killed_leaves_nothing_behind(tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from relatif.pipeline.storage.store import open_store\n"
        "with open_store('memory://killed').publish('f') as publication:\n"
        "    publication.file.write(b'x' * 100_000)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_at_the_last_byte_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written waits in a buffer, so that the disk refuses it when the file is closed."""
    partial = tmp_path / "partial"
    monkeypatch.setattr(store_module, "open_partial", lambda *_: (open("/dev/full", "wb"), partial))  # noqa: SIM115
    store = open_store(tmp_path)
    with pytest.raises(StorageError, match=rf"expected to write {tmp_path}/f, found OSError: .*No space left"):
        store.publish_bytes("f", b"few bytes")
    for rows in (10, 100_000):
        table = pa.table({"test_index": range(rows), "iterations": [1] * rows, "residual": [0.5] * rows})
        with pytest.raises(StorageError, match=r"expected to write .*part\.parquet, found .*No space left"):
            write_table(store, "part.parquet", table.cast(SOLUTIONS.schema), SOLUTIONS, {})
    assert not (tmp_path / "part.parquet").exists()


@pytest.mark.parametrize("place", ["local", "memory", "plain"])
def test_a_new_file_is_created_once(tmp_path: Path, plain: Store, place: str) -> None:
    stores = {"local": open_store(tmp_path), "memory": open_store(f"memory://{tmp_path.name}"), "plain": plain}
    store = stores[place]
    assert store.create_bytes("d/f", b"first")
    assert not store.create_bytes("d/f", b"second")
    assert store.read_bytes("d/f") == b"first"
    assert store.list("d") == ["d/f"]
    assert store.creates_exclusively == (place != "plain")


def test_a_file_system_without_links_creates_once_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refused)
    store = open_store(tmp_path)
    assert store.create_bytes("f", b"first")
    assert not store.create_bytes("f", b"second")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_a_full_disk_is_told_by_the_target_not_the_partial_file() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        file = publication.HashingFile(full, "s3://bucket/target")
        with pytest.raises(Exception, match=r"s3://bucket/target.*No space left"):
            file.write(b"1")
