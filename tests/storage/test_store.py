"""A store behaves alike on the local disk and elsewhere, and never shows half a file."""

import hashlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import ConfigurationError, StorageError

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path if request.param == "local" else f"memory://{uuid.uuid4().hex}")


def test_published_bytes_come_back_with_a_true_receipt(store: Store) -> None:
    data = bytes(range(256)) * 5
    receipt = store.publish_bytes("a/b/file.bin", data)
    assert store.read_bytes("a/b/file.bin") == data
    assert (receipt.path, receipt.bytes) == ("a/b/file.bin", len(data))
    assert receipt.sha256 == hashlib.sha256(data).hexdigest()
    assert store.size("a/b/file.bin") == len(data)


def test_an_empty_file_is_published(store: Store) -> None:
    assert store.publish_bytes("empty", b"").sha256 == hashlib.sha256(b"").hexdigest()
    assert store.size("empty") == 0


def test_publishing_again_replaces(store: Store) -> None:
    store.publish_bytes("f", b"first, and longer")
    store.publish_bytes("f", b"second")
    assert store.read_bytes("f") == b"second"


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish_bytes("f", b"first")
    with store.open("f") as reader:
        store.publish_bytes("f", b"second")
        assert reader.read() == b"first"


def test_nothing_appears_before_the_block_ends(store: Store) -> None:
    with store.publish("d/f.parquet") as publication:
        publication.file.write(b"half")
        assert not store.exists("d/f.parquet")
        assert store.list("d") == []
        with pytest.raises(StorageError, match="still written"):
            _ = publication.receipt
    assert store.list("d") == ["d/f.parquet"]
    assert publication.receipt.bytes == 4


def test_an_exception_leaves_the_old_file_and_no_partial_one(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # where uploads wait

    def stop() -> None:
        with store.publish("d/f") as publication:
            publication.file.write(b"new")
            # What waits for an upload has no name at all.
            assert len(list(tmp_path.rglob("*.partial"))) == (not store.url.startswith("memory"))
            raise KeyboardInterrupt

    store.publish_bytes("d/f", b"old")
    with pytest.raises(KeyboardInterrupt):
        stop()
    assert store.read_bytes("d/f") == b"old"
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_killed_process_leaves_nothing_that_a_reader_sees(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish_bytes("t/old.parquet", b"old")
    program = (
        "import os, signal, sys\n"
        "from relatif.pipeline.storage.store import open_store\n"
        "with open_store(sys.argv[1]).publish('t/new.parquet') as new:\n"
        "    with open_store(sys.argv[1]).publish('t/old.parquet') as old:\n"
        "        new.file.write(b'x' * 100_000)\n"
        "        old.file.write(b'y' * 100_000)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=REPOSITORY, check=False)
    assert ended.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "t").iterdir())) == 3  # the partial files are there, under other names
    assert store.list("t") == ["t/old.parquet"]
    assert store.list("t", ".parquet") == ["t/old.parquet"]
    assert list((tmp_path / "t").glob("*.parquet")) == [tmp_path / "t/old.parquet"]
    assert not store.exists("t/new.parquet")
    assert store.read_bytes("t/old.parquet") == b"old"


def test_list_is_sorted_flat_and_filtered(store: Store) -> None:
    for path in ("t/b.parquet", "t/a.parquet", "t/a.json", "t/below/c.parquet", "u/d.parquet"):
        store.publish_bytes(path, b"1")
    assert store.list("t", ".parquet") == ["t/a.parquet", "t/b.parquet"]
    assert store.list("t") == ["t/a.json", "t/a.parquet", "t/b.parquet"]
    assert store.child("t").list("") == ["a.json", "a.parquet", "b.parquet"]
    assert store.list("nowhere") == []


def test_exists_and_size_tell_files_from_folders(store: Store) -> None:
    store.publish_bytes("t/a", b"123")
    assert store.exists("t")
    assert store.size("t") is None
    assert store.size("t/none") is None
    assert not store.exists("t/none")


def test_delete_removes_a_folder_or_a_file_and_forgives_a_missing_one(store: Store) -> None:
    for path in ("t/a", "t/below/b", "u"):
        store.publish_bytes(path, b"1")
    store.delete("t")
    store.delete("u")
    store.delete("never there")
    assert not store.exists("t/below/b")
    assert not store.exists("t/a")
    assert not store.exists("u")


def test_delete_takes_a_name_with_wildcards_literally(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.publish_bytes("run1/a", b"1")
    store.publish_bytes("run[1]/a", b"1")
    store.delete("run[1]")
    assert store.exists("run1/a")
    assert not store.exists("run[1]/a")


def test_an_opened_file_can_be_sought(store: Store) -> None:
    store.publish_bytes("f", b"0123456789")
    with store.open("f") as file:
        file.seek(-3, os.SEEK_END)
        assert file.read() == b"789"
        file.seek(2)
        assert file.read(2) == b"23"


@pytest.mark.parametrize("read", [Store.read_bytes, Store.open])
def test_a_missing_file_is_named_by_its_full_address(store: Store, read: object) -> None:
    with pytest.raises(StorageError) as caught:
        read(store, "some/file")  # type: ignore[operator]
    assert store.describe("some/file") in str(caught.value)


def test_a_folder_that_refuses_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file/below"):
        open_store(tmp_path).publish_bytes("file/below/x", b"1")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x"])
def test_a_path_that_leaves_the_store_is_refused(store: Store, path: str) -> None:
    with pytest.raises(StorageError, match="relative path"):
        store.exists(path)


def test_a_store_travels_by_pickle(store: Store) -> None:
    store.publish_bytes("a/f", b"1")
    assert pickle.loads(pickle.dumps(store.child("a"))).read_bytes("f") == b"1"


def test_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert open_store("runs/x/").url == str(tmp_path / "runs/x")
    assert open_store(f"file://{tmp_path}/a").url == str(tmp_path / "a")
    assert open_store(Path("b")).url == str(tmp_path / "b")
    assert open_store("memory://x/y/").child("z").url == "memory://x/y/z"
    assert open_store("memory://").child("a/b").url == "memory://a/b"
    assert open_store("simplecache::memory://x").child("y").url == "simplecache::memory://x/y"


def test_credentials_are_not_shown() -> None:
    assert Store("sftp://me:secret@host/folder").describe("f") == "sftp://host/folder/f"


@pytest.mark.parametrize("url", ["nosuch://bucket/x", "simplecache::nosuch://bucket"])
def test_an_unknown_protocol_says_what_to_install(url: str) -> None:
    with pytest.raises(ConfigurationError, match="s3fs for s3://"):
        open_store(url)
    with pytest.raises(ConfigurationError, match="s3fs for s3://"):
        Store(url).exists("x")


def test_an_empty_address_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="found ''"):
        open_store("")


@contextmanager
def served(content: dict[str, bytes], *, told: bool) -> Iterator[str]:
    """Serve files on this machine, with their sizes told or not; yield the address of their folder."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            data = content.get(self.path)
            self.send_response(404 if data is None else 200)
            if told:
                self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content.get(self.path, b""))

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("told", [True, False])
def test_a_file_of_a_server_is_read_where_its_size_is_told_and_refused_in_a_line_elsewhere(told: bool) -> None:
    table = b"x,label\n" + b"".join(b"%d,%s\n" % (row, b"ab"[row % 2 :][:1]) for row in range(40))
    refused = pytest.raises(StorageError, match=r"expected a server that tells the size of http://127.*fetch the file")
    with served({"/table.csv": table}, told=told) as folder:
        store, out = open_store(f"{folder}/table.csv"), open_store(f"memory://{uuid.uuid4().hex}")
        assert store.read_bytes("") == table
        with nullcontext() if told else refused:
            assert store.size("") == len(table)
        with nullcontext() if told else refused:
            reading = Reading(DataConfig(source="", hold_out=0.5), begun=None)
            assert open_source(store, out, reading)[1].rows("train") == 20
