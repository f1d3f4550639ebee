"""Work counts as finished only with a whole proof, made for the same dependencies, and all outputs."""

from pathlib import Path

import pytest

from relatif.pipeline.storage.manifests import finished, publish_manifest, read_manifest
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import Manifest

PATH = "work/unit.json"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def publish(store: Store) -> Manifest:
    outputs = tuple(store.publish_bytes(f"tables/{name}", name.encode()) for name in ("a", "bb"))
    manifest = Manifest(work="unit", digest="d1", outputs=outputs, seconds=1.5, facts={"rows": "3"})
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
    assert finished(store, PATH, "d1") is None
    with pytest.raises(StorageError, match=r"unit\.json.*repeat"):
        read_manifest(store, PATH)


def test_a_missing_or_shorter_output_is_no_proof(store: Store) -> None:
    publish(store)
    store.publish_bytes("tables/bb", b"b")
    assert finished(store, PATH, "d1") is None
    store.delete("tables/bb")
    assert finished(store, PATH, "d1") is None
    store.publish_bytes("tables/bb", b"bb")
    assert finished(store, PATH, "d1") is not None
