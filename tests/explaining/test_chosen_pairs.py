"""Rows chosen one by one: the sample of test inputs, the rows read for them."""

from pathlib import Path

from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.explaining.chosen_pairs import read_rows, sampled_rows
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from tests.support.images import LOGISTIC, write_images


def test_the_sample_is_drawn_without_replacement_by_the_seed_alone() -> None:
    found = sampled_rows(1000, 100, 0)
    assert found == sampled_rows(1000, 100, 0) == sorted(set(found))
    assert len(found) == 100
    assert max(found) < 1000
    assert found != sampled_rows(1000, 100, 1)
    assert set(sampled_rows(1000, 10, 0)) < set(found), "a larger sample holds the smaller one"
    assert sampled_rows(7, 7, 3) == list(range(7))


def test_every_row_is_as_likely_as_any_other() -> None:
    counts = [0] * 10
    for seed in range(2000):
        for row in sampled_rows(10, 3, seed):
            counts[row] += 1
    assert all(480 <= count <= 720 for count in counts), "600 each, give or take six standard deviations"


def test_scattered_rows_are_read(tmp_path: Path) -> None:
    data = open_store(write_images(tmp_path, train=200))
    dataset = open_dataset(data)
    source = Source(open_store(tmp_path / "run"), data, dataset, LOGISTIC)
    (whole,) = (read_shard(data, dataset, shard) for shard in dataset.shards("train", rows=200))
    rows = [0, 49, 50, 199]
    inputs, labels = read_rows(source, dataset.shards("train", rows=50), rows)
    assert inputs.equal(whole.inputs[rows])
    assert labels.equal(whole.labels[rows])
