"""Shards cover a split exactly, however it is cut, and read what was written."""

import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from relatif.pipeline.datasets.description import (
    DatasetDescription,
    InputDescription,
    PartDescription,
    Provenance,
    SplitDescription,
    Subject,
)
from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset, read_published_labels, read_shard
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import ConfigurationError, DataError, StorageError

SUBJECT = Subject(
    name="made-up",
    meaning="noise",
    input=InputDescription(column="image", dtype="uint8", shape=(2, 3)),
    class_names=("a", "b", "c"),
    provenance=Provenance(origin="a generator", licence="none", licence_url="", sources=()),
)
ROWS = 57
INPUTS = np.random.default_rng(0).integers(0, 256, (ROWS, 2, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 3, ROWS)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = open_store(tmp_path)
    splits = {"train": (INPUTS, LABELS), "test": (INPUTS[:3], LABELS[:3])}
    write_dataset(store, SUBJECT, splits, rows_per_file=20, rows_per_group=6)  # type: ignore[arg-type]
    return store


@pytest.mark.parametrize("limit", [None, 1, 6, 19, 20, 21, 56, 57])
@pytest.mark.parametrize("rows", [1, 6, 13, 20, 33, 1000])
def test_shards_read_the_first_rows_in_order(store: Store, rows: int, limit: int | None) -> None:
    dataset = open_dataset(store)
    shards = dataset.shards("train", rows=rows, limit=limit)
    read = [read_shard(store, dataset, shard) for shard in shards]
    kept = ROWS if limit is None else limit
    assert torch.equal(torch.cat([part.inputs for part in read]), torch.from_numpy(INPUTS[:kept]))
    assert torch.equal(torch.cat([part.labels for part in read]), torch.from_numpy(LABELS[:kept]))
    assert [part.start for part in read] == [shard.start for shard in shards]
    assert {(part.inputs.dtype, part.labels.dtype) for part in read} == {(torch.uint8, torch.int64)}


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_float32_inputs_come_back_bit_by_bit(tmp_path: Path, rows: int) -> None:
    values = np.random.default_rng(2).standard_normal((ROWS, 2, 3)).astype(np.float32)
    values[0, 0] = [-0.0, np.finfo(np.float32).tiny / 2, np.finfo(np.float32).max]
    subject = SUBJECT.model_copy(update={"input": InputDescription(column="x", dtype="float32", shape=(2, 3))})
    store = open_store(tmp_path)
    write_dataset(store, subject, {"train": (values, LABELS)}, rows_per_file=20, rows_per_group=6)
    dataset = open_dataset(store)
    read = [read_shard(store, dataset, shard) for shard in dataset.shards("train", rows=rows)]
    inputs = torch.cat([part.inputs for part in read])
    assert (dataset.description.input.dtype, inputs.dtype) == ("float32", torch.float32)
    assert inputs.numpy().tobytes() == values.tobytes()
    assert torch.equal(torch.cat([part.labels for part in read]), torch.from_numpy(LABELS))


def described(files: list[list[int]]) -> PreparedDataset:
    parts = tuple(
        PartDescription(path=f"{i}", rows=sum(groups), row_groups=tuple(groups), bytes=1, sha256="")
        for i, groups in enumerate(files)
    )
    split = SplitDescription(rows=sum(part.rows for part in parts), files=parts)
    return PreparedDataset(DatasetDescription(**dict(SUBJECT), format=1, splits={"train": split}))


@given(
    files=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4),
    rows=st.integers(1, 40),
    share=st.floats(0, 1),
)
def test_shards_are_the_longest_runs_of_whole_row_groups(files: list[list[int]], rows: int, share: float) -> None:
    dataset = described(files)
    groups = [count for file in files for count in file]
    borders = [sum(groups[:i]) for i in range(len(groups) + 1)]
    whole = dataset.shards("train", rows=rows)
    assert [shard.index for shard in whole] == list(range(len(whole)))
    assert [whole[0].start, *(shard.stop for shard in whole)] == [0, *(shard.start for shard in whole[1:]), borders[-1]]
    for shard in whole:
        first, last = borders.index(shard.start), borders.index(shard.stop)
        assert sum(piece.rows for piece in shard.pieces) == shard.rows
        assert shard.rows <= rows or last == first + 1
        assert shard.stop == borders[-1] or borders[last + 1] - shard.start > rows
    limit = max(1, math.ceil(share * borders[-1]))
    limited = dataset.shards("train", rows=rows, limit=limit)
    assert limited[-1].stop == limit
    assert sum(piece.rows for piece in limited[-1].pieces) == limited[-1].rows
    assert limited[:-1] == whole[: len(limited) - 1]  # a limit moves no border


@pytest.mark.parametrize("limit", [0, -1, ROWS + 1])
def test_a_limit_outside_the_split_is_refused(store: Store, limit: int) -> None:
    with pytest.raises(ConfigurationError, match=f"57 rows of made-up/train.*found limit {limit}"):
        open_dataset(store).shards("train", rows=10, limit=limit)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="'test' in data set made-up, found train"):
        described([[1]]).rows("test")


def test_a_data_set_says_what_it_is_and_travels(store: Store) -> None:
    dataset = pickle.loads(pickle.dumps(open_dataset(store)))
    assert (dataset.name, dataset.input_shape, dataset.description.input.dtype) == ("made-up", (2, 3), "uint8")
    assert dataset.class_names == ("a", "b", "c")
    assert (dataset.rows("train"), dataset.rows("test")) == (ROWS, 3)
    assert dataset.fingerprint == open_dataset(store).fingerprint


def test_a_missing_or_shorter_file_is_named(store: Store) -> None:
    data = store.read_bytes("train/part-00001.parquet")
    store.publish_bytes("train/part-00001.parquet", data[:-1])
    with pytest.raises(
        DataError,
        match=rf"part-00001\.parquet with {len(data)} bytes, as dataset.json says, .* {len(data) - 1}",
    ):
        open_dataset(store)
    store.delete("train/part-00001.parquet")
    with pytest.raises(DataError, match=r"train/part-00001\.parquet with .* found none"):
        open_dataset(store)


def test_a_flipped_bit_is_told_by_file(store: Store, tmp_path: Path) -> None:
    dataset = open_dataset(store)
    path = tmp_path / "train/part-00001.parquet"
    column = pq.read_metadata(path).row_group(1).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train/part-00001\.parquet with SHA-256"):
        open_dataset(store)
    # Whoever opened it before the damage finds it in the pages.
    shards = dataset.shards("train", rows=6)
    for shard in shards:
        if any(piece.file.endswith("1.parquet") and piece.row_group == 1 for piece in shard.pieces):
            with pytest.raises(DataError, match=r"train/part-00001\.parquet"):
                read_shard(store, dataset, shard)
        else:
            read_shard(store, dataset, shard)


def test_a_file_that_vanished_or_is_another_one_is_named(store: Store) -> None:
    dataset = open_dataset(store)
    shards = dataset.shards("train", rows=20)
    store.publish_bytes("train/part-00000.parquet", store.read_bytes("test/part-00000.parquet"))
    with pytest.raises(DataError, match=r"train/part-00000\.parquet"):
        read_shard(store, dataset, shards[0])
    store.delete("train/part-00001.parquet")
    with pytest.raises(DataError, match=r"train/part-00001\.parquet"):
        read_shard(store, dataset, shards[1])


def test_values_of_another_width_are_refused(store: Store) -> None:
    description = open_dataset(store).description
    wider = description.input.model_copy(update={"dtype": "float32"})
    dataset = PreparedDataset(description.model_copy(update={"input": wider}))
    with pytest.raises(DataError, match=r"fixed_size_binary\[24\].*found .*fixed_size_binary\[6\]"):
        read_shard(store, dataset, dataset.shards("train", rows=6)[0])


def test_what_was_read_may_be_changed(store: Store) -> None:
    dataset = open_dataset(store)
    shard = dataset.shards("train", rows=6)[0]
    read_shard(store, dataset, shard).inputs.zero_()
    assert torch.equal(read_shard(store, dataset, shard).inputs, torch.from_numpy(INPUTS[:6]))


@pytest.mark.parametrize("rows", [1, 7, 100])
def test_labels_are_merged_and_flipped_as_they_are_read(store: Store, rows: int) -> None:
    labelling = Labelling(merge=2, flip_share=0.4)
    dataset = replace(open_dataset(store), labelling=labelling)
    shards = dataset.shards("train", rows=rows)
    seen = torch.cat([read_shard(store, dataset, shard).labels for shard in shards])
    merged = torch.from_numpy(LABELS) // 2
    flipped = labelling.flipped(torch.arange(ROWS))

    assert dataset.class_names == ("a+b", "c")
    assert [dataset.class_name(label) for label in (0, 1, 2)] == ["a+b", "c", "no class (2)"]
    assert torch.equal(seen, torch.where(flipped, 1 - merged, merged)), "of two classes the other one is left"
    assert 0 < int(flipped.sum()) < ROWS
    published = torch.cat([read_published_labels(store, shard) for shard in shards])
    assert torch.equal(published, torch.from_numpy(LABELS))
    assert dataset.fingerprint == open_dataset(store).fingerprint


def test_a_storage_that_refuses_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(store)
    shard = dataset.shards("train", rows=12)[0]

    def refused(*_: object) -> None:
        raise StorageError("expected to read, found it refused") from PermissionError("the token has expired")

    monkeypatch.setattr(Store, "open", refused)
    with pytest.raises(StorageError, match=r"found StorageError: .*; check credentials, rights and the connection"):
        read_shard(store, dataset, shard)
