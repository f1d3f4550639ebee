"""The first rows of published data are laid out as the whole of it is once it is prepared."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.excerpt import write_excerpt
from relatif.pipeline.datasets.preparing import Published, prepare_once
from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.storage.store import open_store

ROWS = {"train": 25_300, "test": 420}
CHUNK_ROWS = 170

SUBJECT = Subject(
    name="numbers",
    meaning="made up",
    input=InputDescription(column="number", dtype="uint8", shape=(2,)),
    class_names=("a", "b", "c"),
    provenance=Provenance(origin="", licence="", licence_url="", sources=()),
)


def published(taken: list[int], rows_per_group: int) -> Published:
    def chunks(total: int) -> Iterator[Chunk]:
        for start in range(0, total, CHUNK_ROWS):
            rows = np.arange(start, min(start + CHUNK_ROWS, total))
            taken.append(len(rows))
            yield Chunk(np.stack([rows % 251, rows // 251], axis=1).astype(np.uint8), rows % 3)

    return Published(SUBJECT, {split: chunks(total) for split, total in ROWS.items()}, ROWS, rows_per_group)


@pytest.mark.parametrize(("rows_per_group", "expected"), [(1000, 1000), (300, 900), (4000, 4000), (50_000, 10_000)])
def test_its_shards_are_those_of_the_prepared_data_and_its_first_rows_too(
    tmp_path: Path, rows_per_group: int, expected: int
) -> None:
    whole, part = open_store(tmp_path / "whole"), open_store(tmp_path / "part")
    prepared, taken = prepare_once(whole, published([], rows_per_group)), list[int]()
    head = write_excerpt(part, published(taken, rows_per_group), rows=1000)
    for split in ("train", "test"):
        assert head.rows(split) == prepared.rows(split) == ROWS[split]
        assert head.shards(split, rows=2000) == prepared.shards(split, rows=2000)
        (shard,) = prepared.shards(split, rows=expected, limit=min(expected, ROWS[split]))
        one, other = read_shard(part, head, shard), read_shard(whole, prepared, shard)
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.labels, other.labels)
    assert sum(taken) < expected + ROWS["test"] + CHUNK_ROWS, "no more is read than is written"


def test_large_rows_are_few(tmp_path: Path) -> None:
    shape = (16 * 2**20,)
    taken: list[int] = []

    def chunks() -> Iterator[Chunk]:
        for _ in range(20):
            taken.append(1)
            yield Chunk(np.zeros((1, *shape), np.uint8), np.zeros(1, np.int64))

    large = SUBJECT.model_copy(update={"input": InputDescription(column="number", dtype="uint8", shape=shape)})
    found = write_excerpt(open_store(tmp_path), Published(large, {"train": chunks()}, {"train": 20}, 1))
    assert (found.rows("train"), len(taken)) == (20, 4), "64 MiB"
