"""The ways in which a complete file becomes visible on file systems that differ."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from relatif.pipeline.storage import publication
from relatif.pipeline.storage.store import Store, open_store


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
    partial = publication.create_partial(LocalFileSystem(), str(tmp_path / "d/f.parquet"))
    assert partial.parent == tmp_path / "d"  # a rename within a folder is one step
    assert partial.suffix == ".partial"


def test_a_full_disk_is_told_by_the_target_not_the_partial_file() -> None:
    with open("/dev/full", "wb", buffering=0) as full:
        file = publication.HashingFile(full, "s3://bucket/target")
        with pytest.raises(Exception, match=r"s3://bucket/target.*No space left"):
            file.write(b"1")
