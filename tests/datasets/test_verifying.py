"""A data set is looked at whole when it is opened: its files' contents, and every label by the footers' statistics."""

import json
from pathlib import Path
from unittest import mock

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.datasets import verifying
from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.support.images import CLASSES, write_images
from tests.support.labelled import rewrite, with_label, with_value, write_points


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, train=120, test=30)


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("label", [CLASSES, -1, 2**31 - 1, None])
@pytest.mark.parametrize(("split", "row"), [("train", 77), ("test", 29)])
def test_a_label_outside_the_classes_is_refused_by_row(
    folder: Path, split: str, row: int, label: int | None, statistics: bool
) -> None:
    with_label(folder, split, row, label, write_statistics=statistics)
    found = "none" if label is None else label
    with pytest.raises(DataError, match=rf"labels from 0 to 3 in .*{split}.*, found {found} in row {row};"):
        open_dataset(open_store(folder))


@pytest.mark.parametrize("place", [5, -5, -60, -200])
def test_a_flipped_bit_anywhere_is_named_by_file(folder: Path, place: int) -> None:
    path = folder / "train/part-00000.parquet"
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"train/part-00000\.parquet with SHA-256"):
        open_dataset(open_store(folder))


def test_what_is_too_large_to_hash_is_found_where_it_is_read(folder: Path) -> None:
    path = folder / "train/part-00000.parquet"
    column = pq.read_metadata(path).row_group(0).column(0)
    data = bytearray(path.read_bytes())
    data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    store = open_store(folder)
    with mock.patch.object(verifying, "HASHED_BYTES", 0):
        dataset = open_dataset(store)
    with pytest.raises(DataError, match=r"a whole Parquet file at .*train/part-00000\.parquet"):
        read_shard(store, dataset, dataset.shards("train", rows=50)[0])


def test_other_row_groups_or_columns_than_described_are_refused(folder: Path) -> None:
    path = folder / "train/part-00000.parquet"
    rewrite(folder, "train", pq.read_table(path).rename_columns(["pixels", "class"]))
    with pytest.raises(
        DataError, match=r"with columns pixels .*, label \(int32\), as dataset.json .*, class \(int32\)"
    ):
        open_dataset(open_store(folder))
    description = json.loads((folder / DATASET_JSON).read_text())
    description["splits"]["train"]["files"][0]["row_groups"] = [20, 50, 50]
    (folder / DATASET_JSON).write_text(json.dumps(description))
    with pytest.raises(DataError, match=r"row groups of \(20, 50, 50\) rows, as dataset.json says, .* \[50, 50, 20\]"):
        open_dataset(open_store(folder))


def test_labels_of_another_type_are_refused(folder: Path) -> None:
    path = folder / "train/part-00000.parquet"
    table = pq.read_table(path)
    rewrite(folder, "train", table.set_column(1, "label", table["label"].cast(pa.int64())))
    with pytest.raises(DataError, match=r"label \(int32\), as dataset.json says, found .*label \(int64\)"):
        open_dataset(open_store(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_named_by_row(tmp_path: Path, value: float) -> None:
    folder = write_points(tmp_path)
    with_value(folder, "train", 37, value)
    store = open_store(folder)
    dataset = open_dataset(store)
    with pytest.raises(DataError, match=rf"finite values in .*, found {value} in row 37"):
        read_shard(store, dataset, dataset.shards("train", rows=100)[0])
