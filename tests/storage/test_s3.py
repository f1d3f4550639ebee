"""Storage and shards on S3, as a local server plays it."""

from collections.abc import Iterator

import boto3
import numpy as np
import pyarrow as pa
import pytest
import torch

from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage import publication
from relatif.pipeline.storage.claims import claimed
from relatif.pipeline.storage.manifests import finished, publish_manifest
from relatif.pipeline.storage.parquet import TableWriter, read_table, write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ClaimError, MissingStageError, StorageError
from relatif.schemas.manifest import Manifest
from relatif.schemas.tables import OVERLAP
from tests.support.s3 import bucket_at, served


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture
def store(endpoint: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Store]:
    with bucket_at(endpoint, monkeypatch) as bucket:
        yield open_store(f"{bucket}/{request.node.name}")


def test_files_and_tables(store: Store) -> None:
    with pytest.raises(MissingStageError, match="s3://bucket/"):
        read_table(store, "t")
    rows = pa.table({"method_a": ["a"], "method_b": ["b"], "k": [1], "overlap": [0.5]}, OVERLAP.schema)
    with TableWriter(store, "t/part-0.parquet", OVERLAP, {"damping": "1"}) as writer:
        writer.write(rows)
        assert store.list("t") == []
    assert read_table(store, "t").equals(rows)
    publish_manifest(store, "m.json", Manifest(work="w", digest="d", outputs=(writer.receipt,), seconds=0.0))
    assert finished(store, "m.json", "d") is not None
    store.delete("t")
    assert finished(store, "m.json", "d") is None
    with pytest.raises(StorageError, match="found none"):
        store.read_bytes("t/part-0.parquet")


def test_another_writer_is_seen(store: Store) -> None:
    store.publish_bytes("t/a", b"1")
    assert store.list("t") == ["t/a"]  # which s3fs remembers
    for name in ("a", "b"):
        key = f"{store.url.removeprefix('s3://bucket/')}/t/{name}"
        boto3.client("s3").put_object(Bucket="bucket", Key=key, Body=b"12")
    assert store.size("t/a") == 2
    assert store.exists("t/b")
    assert store.list("t") == ["t/a", "t/b"]


def test_a_failed_block_uploads_nothing_and_a_large_file_is_streamed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        with store.publish("f") as failing:
            failing.file.write(b"half")
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop()
    assert not store.exists("f")
    monkeypatch.setattr(publication, "SINGLE_PUT_BYTES", 10)
    store.publish_bytes("f", b"more than ten bytes")
    assert store.read_bytes("f") == b"more than ten bytes"


def test_shards(store: Store) -> None:
    subject = Subject(
        name="made-up",
        meaning="noise",
        input=InputDescription(column="image", dtype="uint8", shape=(2, 3)),
        class_names=("a", "b"),
        provenance=Provenance(origin="a generator", licence="none", licence_url="", sources=()),
    )
    inputs = np.random.default_rng(0).integers(0, 256, (50, 2, 3), np.uint8)
    labels = np.random.default_rng(1).integers(0, 2, 50)
    write_dataset(store, subject, {"train": (inputs, labels)}, rows_per_file=20, rows_per_group=6)
    dataset = open_dataset(store)
    read = [read_shard(store, dataset, shard) for shard in dataset.shards("train", rows=13, limit=49)]
    assert torch.equal(torch.cat([part.inputs for part in read]), torch.from_numpy(inputs[:49]))
    assert torch.equal(torch.cat([part.labels for part in read]), torch.from_numpy(labels[:49]))


def test_of_two_writers_one_holds_the_claim_and_who_lost_it_publishes_nothing(store: Store) -> None:
    assert store.creates_exclusively
    with claimed(store) as first:
        first.publish_bytes("a", b"1")
        with pytest.raises(ClaimError, match=rf"to {store.url}, found process \d+ on .*, started 20"):
            claimed(store).__enter__()
        store.delete(run_directory.CLAIMS)
        with claimed(store) as second:
            with pytest.raises(ClaimError, match="it was taken over by process"):
                first.publish_bytes("a", b"late")
            second.publish_bytes("b", b"2")
    assert store.read_bytes("a") == b"1"
    assert store.list(run_directory.CLAIMS) == []


def test_an_expired_token_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pa.table({"method_a": ["a"], "method_b": ["b"], "k": [1], "overlap": [0.5]}, OVERLAP.schema)
    write_table(store, "t/part-0.parquet", rows, OVERLAP, {})

    def expired(*_: object, **__: object) -> None:
        raise PermissionError("The provided token has expired.")

    monkeypatch.setattr("s3fs.core.S3File._fetch_range", expired)
    with pytest.raises(StorageError, match=r"expected to read .*, found PermissionError: .*; check credentials"):
        read_table(store, "t")
