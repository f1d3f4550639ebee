"""The training set in memory: all rows in order, one of them left out, whatever the threads."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.training_sets import HeldTrainingSet, ShardedTrainingSet, hold
from relatif.pipeline.storage.store import open_store
from tests.support.held import held
from tests.support.images import LOGISTIC, write_images

ROWS = 10


def rows_of(data: HeldTrainingSet) -> list[int]:
    return [int(value) for part in data.batches(lambda batch: batch.inputs.flatten()) for value in part]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("row", range(ROWS))
def test_one_row_is_left_out_and_the_others_keep_their_order(row: int, threads: int) -> None:
    inputs = torch.arange(ROWS, dtype=torch.uint8)[:, None]
    with held(inputs, torch.arange(ROWS), shards=3, threads=threads) as data:
        rest = data.without(row)
        labels = torch.cat(list(rest.batches(lambda batch: batch.labels))).tolist()
        assert rows_of(rest) == labels == [each for each in range(ROWS) if each != row]
        assert (data.rows, rest.rows) == (ROWS, ROWS - 1)
        assert rows_of(data) == list(range(ROWS)), "the set itself stays whole"


def test_a_shard_of_one_row_vanishes_with_it() -> None:
    with held(torch.arange(3)[:, None], torch.arange(3), shards=3) as data:
        rest = data.without(1)
        assert [batch.start for batch in rest.shards] == [0, 2]
        assert rows_of(rest) == [0, 2]


def test_shards_are_read_as_they_are_stored(tmp_path: Path) -> None:
    data = open_store(write_images(tmp_path, train=200))
    dataset = open_dataset(data)
    source = Source(open_store(tmp_path / "run"), data, dataset, LOGISTIC)
    worker = Worker(2)
    with worker.pool() as pool:
        held_set = hold(source, dataset.shards("train", rows=50, limit=130), worker, pool)
    assert held_set.rows == 130
    assert [(shard.start, len(shard.labels)) for shard in held_set.shards] == [(0, 50), (50, 50), (100, 30)]
    assert {shard.inputs.dtype for shard in held_set.shards} == {torch.uint8}


def test_some_rows_are_kept_in_their_order_and_empty_shards_vanish() -> None:
    with held(torch.arange(ROWS)[:, None], torch.arange(ROWS), shards=3) as data:
        members = torch.zeros(ROWS, dtype=torch.bool)
        members[[9, 0, 2]] = True
        some = data.only(members)
        assert rows_of(some) == [0, 2, 9]
        assert [batch.start for batch in some.shards] == [0, 7]
        assert torch.cat(list(some.batches(lambda batch: batch.labels))).tolist() == [0, 2, 9]
        assert rows_of(data) == list(range(ROWS)), "the set itself stays whole"


@pytest.mark.parametrize("threads", [1, 3])
def test_a_training_set_passes_over_all_shards_in_order(tmp_path: Path, threads: int) -> None:
    data = open_store(write_images(tmp_path, train=200))
    dataset = open_dataset(data)
    shards, worker = dataset.shards("train", rows=50, limit=130), Worker(threads)
    with worker.pool() as pool:
        source = Source(open_store(tmp_path / "run"), data, dataset, LOGISTIC)
        training = ShardedTrainingSet(source, shards, worker, pool)
        assert (training.rows, training.device) == (130, "cpu")
        for _ in range(2):
            assert list(training.batches(lambda batch: batch.labels.tolist())) == [
                read_shard(data, dataset, shard).labels.tolist() for shard in shards
            ]
