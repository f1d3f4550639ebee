"""MNIST is prepared from its published files alone, once; the committed data set is the real one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.description import DATASET_JSON, InputDescription, Provenance, Subject
from relatif.pipeline.datasets.idx import read_images, read_labels
from relatif.pipeline.datasets.mnist import is_mnist
from relatif.pipeline.datasets.published import prepare
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset, read_shard
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError
from tests.reference.idx import idx_bytes, made_up_digits, write_digits

REPOSITORY = Path(__file__).resolve().parents[2]
COMMITTED = REPOSITORY / "data" / "mnist"
PUBLISHED = REPOSITORY.parent / "shared" / "data" / "mnist"

# Known of MNIST: how many of each digit, and the mean grey value over the training set.
TRAIN_COUNTS = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
TEST_COUNTS = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
TRAIN_MEAN = 0.1307
TRAIN_MEAN_TOLERANCE = 5e-5  # the mean is quoted to four places
FIRST_TRAIN_LABELS = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]


def everything(store: Store, dataset: PreparedDataset, split: str) -> tuple[torch.Tensor, torch.Tensor]:
    (shard,) = dataset.shards(split, rows=10**6)  # type: ignore[arg-type]
    examples = read_shard(store, dataset, shard)
    return examples.inputs, examples.labels


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepared_digits_are_the_published_ones(tmp_path: Path) -> None:
    digits = made_up_digits(2345, 77)
    write_digits(tmp_path / "source", digits)
    out = open_store(tmp_path / "out")
    dataset = prepare(open_store(tmp_path / "source"), out, "mnist")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        inputs, labels = everything(out, dataset, split)
        assert np.array_equal(inputs.numpy(), digits[f"{prefix}-images-idx3-ubyte"])
        assert np.array_equal(labels.numpy(), digits[f"{prefix}-labels-idx1-ubyte"])
    assert dataset.class_names == tuple("0123456789")
    assert len(dataset.description.splits["train"].files[0].row_groups) == 3


def test_preparing_elsewhere_gives_the_same_bytes(tmp_path: Path) -> None:
    for place in ("a", "b"):
        write_digits(tmp_path / f"source-{place}", made_up_digits(30, 20))
        prepare(open_store(tmp_path / f"source-{place}"), open_store(tmp_path / f"out-{place}"), "mnist")
    assert contents(tmp_path / "out-a") == contents(tmp_path / "out-b")


def test_preparing_again_writes_nothing(tmp_path: Path) -> None:
    write_digits(tmp_path / "source", made_up_digits(30, 20))
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    prepare(source, out, "mnist")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    prepare(source, out, "mnist")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before


@pytest.mark.parametrize("damage", ["changed source", "missing part", "damaged description"])
def test_what_is_not_proved_is_written_again(tmp_path: Path, damage: str) -> None:
    write_digits(tmp_path / "source", made_up_digits(30, 20))
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    prepare(source, out, "mnist")
    expected = contents(tmp_path / "out")
    if damage == "changed source":
        write_digits(tmp_path / "source", made_up_digits(31, 20, seed=5))
        changed = prepare(source, open_store(tmp_path / "fresh"), "mnist")
        expected = contents(tmp_path / "fresh")
        assert changed.rows("train") == 31
    elif damage == "missing part":
        out.delete("test/part-00000.parquet")
    else:
        out.publish_bytes(DATASET_JSON, b"{}")
    prepare(source, out, "mnist")
    assert contents(tmp_path / "out") == expected


def test_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    out = open_store(tmp_path / "out")
    other = Subject(
        name="other",
        meaning="noise",
        input=InputDescription(column="image", dtype="uint8", shape=(1,)),
        class_names=("a",),
        provenance=Provenance(origin="", licence="", licence_url="", sources=()),
    )
    write_dataset(out, other, {"train": (np.zeros((3, 1), np.uint8), np.zeros(3, np.int64))})
    write_digits(tmp_path / "source", made_up_digits(3, 2))
    with pytest.raises(DataError, match="found other; choose another folder"):
        prepare(open_store(tmp_path / "source"), out, "mnist")
    assert open_dataset(out).name == "other"


@pytest.mark.parametrize("stem", list(made_up_digits(1, 1)))
def test_each_missing_or_truncated_file_is_named(tmp_path: Path, stem: str) -> None:
    write_digits(tmp_path, made_up_digits(5, 3))
    source, out = open_store(tmp_path), open_store(tmp_path / "out")
    path = tmp_path / f"{stem}.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match=f"{stem}.*truncated"):
        prepare(source, out, "mnist")
    path.unlink()
    assert is_mnist(source)
    with pytest.raises(DataError, match=f"{stem}.*found neither"):
        prepare(source, out, "mnist")
    assert not out.exists(DATASET_JSON)


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    digits = made_up_digits(60, 10)
    write_digits(tmp_path, digits)
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(digits["train-labels-idx1-ubyte"][:-1]))
    message = r"train-images-idx3-ubyte\.gz .*train-labels-idx1-ubyte\.gz.*found 60 and 59"
    with pytest.raises(DataError, match=message):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "mnist")


def test_the_committed_data_set_is_mnist() -> None:
    store = open_store(COMMITTED)
    dataset = open_dataset(store)
    train, train_labels = everything(store, dataset, "train")
    test, test_labels = everything(store, dataset, "test")
    assert (tuple(train.shape), tuple(test.shape)) == ((60_000, 28, 28), (10_000, 28, 28))
    assert torch.bincount(train_labels).tolist() == TRAIN_COUNTS
    assert torch.bincount(test_labels).tolist() == TEST_COUNTS
    assert train_labels[:10].tolist() == FIRST_TRAIN_LABELS
    assert train.double().mean().item() / 255 == pytest.approx(TRAIN_MEAN, abs=TRAIN_MEAN_TOLERANCE)


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files do not lie beside the repository")
def test_the_committed_data_set_equals_the_published_files() -> None:
    store, published = open_store(COMMITTED), open_store(PUBLISHED)
    dataset = open_dataset(store)
    sources = {source.path: source for source in dataset.description.provenance.sources}
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, image_file = read_images(published, f"{prefix}-images", (28, 28))
        labels, label_file = read_labels(published, f"{prefix}-labels", 10)
        read_inputs, read_targets = everything(store, dataset, split)
        assert np.array_equal(read_inputs.numpy(), images)
        assert np.array_equal(read_targets.numpy(), labels)
        assert sources[image_file.path] == image_file
        assert sources[label_file.path] == label_file
