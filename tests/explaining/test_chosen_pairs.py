"""Rows chosen one by one are read from the shards that hold them."""

from pathlib import Path

from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.explaining.chosen_pairs import read_rows
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from tests.support.images import LOGISTIC, write_images


def test_scattered_rows_are_read(tmp_path: Path) -> None:
    data = open_store(write_images(tmp_path, train=200))
    dataset = open_dataset(data)
    source = Source(open_store(tmp_path / "run"), data, dataset, LOGISTIC)
    (whole,) = (read_shard(data, dataset, shard) for shard in dataset.shards("train", rows=200))
    rows = [0, 49, 50, 199]
    inputs, labels = read_rows(source, dataset.shards("train", rows=50), rows)
    assert inputs.equal(whole.inputs[rows])
    assert labels.equal(whole.labels[rows])
