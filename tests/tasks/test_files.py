"""What a task's training reads beside the data is hashed by its contents."""

from hashlib import sha256
from pathlib import Path

import pytest

from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.files import file_hashes, require_files
from relatif.schemas.errors import DataError


def hashed(data: bytes) -> str:
    return sha256(data).hexdigest()


def test_files_folders_and_urls_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(b"a")
    (tmp_path / "below/deep").mkdir(parents=True)
    for name in ("below/b", "below/deep/c"):
        (tmp_path / name).write_bytes(name.encode())
    open_store("memory://files").publish_bytes("d", b"d")
    found = file_hashes(("a.pt", str(tmp_path / "a.pt"), "below", "memory://files/d"))
    assert found == {
        "a.pt": hashed(b"a"),
        str(tmp_path / "a.pt"): hashed(b"a"),
        "below/b": hashed(b"below/b"),
        "below/deep/c": hashed(b"below/deep/c"),
        "memory://files/d": hashed(b"d"),
    }
    assert file_hashes(()) == {}


@pytest.mark.parametrize("address", ["none.pt", "", "memory://files/none", "empty"])
def test_what_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=f"expected the file {address} that the task's training reads"):
        file_hashes((address,))


def test_a_worker_with_other_files_refuses_them(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(b"a")
    before = file_hashes((str(path),))
    require_files(file_hashes((str(path),)), before)
    require_files({}, {})
    path.write_bytes(b"b")
    with pytest.raises(DataError, match=rf"found others for {path}; give every machine the same files"):
        require_files(file_hashes((str(path),)), before)
