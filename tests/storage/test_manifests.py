"""Work counts as finished only with a whole proof, made for the same dependencies, and the outputs that it names."""

from hashlib import sha256
from pathlib import Path

import pytest

from relatif.pipeline.storage import store as store_module
from relatif.pipeline.storage.manifests import (
    damage,
    finished,
    proven_bytes,
    publish_manifest,
    read_manifest,
    require_whole,
    verified_bytes,
)
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt, Manifest

PATH = "work/unit.json"


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return open_store(tmp_path if request.param == "local" else f"memory://manifests/{tmp_path.name}")


def publish(store: Store) -> Manifest:
    outputs = tuple(store.publish_bytes(f"tables/{name}", name.encode()) for name in ("a", "bb"))
    manifest = Manifest(
        work="unit",
        digest="d1",
        outputs=outputs,
        seconds=1.5,
        facts={"rows": "3"},
        settings={"curvature.damping": 1e-5, "score.methods": ["a", "b"]},
        made_from={"train": ("0" * 64,)},
    )
    publish_manifest(store, PATH, manifest)
    return manifest


def test_finished_work_is_proved(store: Store) -> None:
    manifest = publish(store)
    assert finished(store, PATH, "d1") == manifest
    assert read_manifest(store, PATH) == manifest


def test_no_manifest_is_no_proof(store: Store) -> None:
    assert finished(store, PATH, "d1") is None
    with pytest.raises(StorageError, match=r"unit\.json"):
        read_manifest(store, PATH)


def test_another_digest_is_no_proof(store: Store) -> None:
    publish(store)
    assert finished(store, PATH, "d2") is None


@pytest.mark.parametrize("data", [b"", b'{"work": "unit"', b'{"work": "unit"}', b"\xff\xfe", b"[]"])
def test_a_damaged_manifest_is_no_proof(store: Store, data: bytes) -> None:
    publish(store)
    store.publish_bytes(PATH, data)
    told: list[str] = []
    assert finished(store, PATH, "d1", damaged=told.append) is None
    assert told == [
        f"{store.describe(PATH)} is damaged: no seal: it is not whole, or was written by an earlier version"
    ]
    with pytest.raises(StorageError, match=r"unit\.json.*repeat"):
        read_manifest(store, PATH)


def test_one_changed_bit_of_a_manifest_is_seen(store: Store) -> None:
    publish(store)
    data = store.read_bytes(PATH)
    for place in range(0, len(data), 7):
        changed = bytearray(data)
        changed[place] ^= 1 << (place % 8)
        store.publish_bytes(PATH, bytes(changed))
        told: list[str] = []
        assert finished(store, PATH, "d1", damaged=told.append) is None
        assert len(told) == 1, place


def test_an_output_that_is_missing_or_shorter_or_another_is_no_proof(store: Store) -> None:
    (_, output) = publish(store).outputs
    for data, fault in ((b"b", "has 1 bytes, 2 were written"), (b"ba", "has other contents than were written")):
        store.publish_bytes("tables/bb", data)
        told: list[str] = []
        assert finished(store, PATH, "d1", damaged=told.append) is None
        assert told == [f"{store.describe('tables/bb')} {fault}"]
        with pytest.raises(
            StorageError,
            match=f"found damage: .*tables/bb {fault}; run the job that made it again, such as relatif run",
        ):
            verified_bytes(store, output)
    store.delete("tables/bb")
    assert finished(store, PATH, "d1") is None
    with pytest.raises(StorageError, match=r"tables/bb is missing"):
        require_whole(store, [output])
    store.publish_bytes("tables/bb", b"bb")
    assert finished(store, PATH, "d1") is not None
    assert verified_bytes(store, output) == b"bb"


def test_a_file_is_read_as_its_proof_names_it(store: Store) -> None:
    publish(store)
    assert proven_bytes(store, "tables/a", PATH) == b"a"
    with pytest.raises(
        StorageError, match=r"expected tables/c among the files that .*unit\.json names, found tables/a, "
    ):
        proven_bytes(store, "tables/c", PATH)
    store.publish_bytes("tables/a", b"b")
    with pytest.raises(StorageError, match="tables/a has other contents"):
        proven_bytes(store, "tables/a", PATH)


def test_a_large_file_is_hashed_piece_by_piece(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytes(range(256)) * 10
    receipt = store.publish_bytes("large", data)
    monkeypatch.setattr(store_module, "WHOLE_BYTES", 100)
    assert store.measure("large", about=len(data)) == (len(data), sha256(data).hexdigest())
    assert store.measure("none", about=len(data)) is None
    assert damage(store, [receipt, receipt]) == []
    other = FileReceipt(path="large", bytes=len(data), sha256="0" * 64)
    assert damage(store, [receipt, other]) == [f"{store.describe('large')} has other contents than were written"]
