"""CIFAR-10 is prepared from every form in which it is published; files that do not fit are told by name."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.cifar10 import is_cifar10
from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.published import prepare
from relatif.pipeline.datasets.shards import PreparedDataset, read_shard
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError
from tests.reference.cifar import (
    NAMES,
    Rows,
    binary_files,
    made_up_batches,
    python_batch,
    python_files,
    write_archive,
    write_files,
)

PYTHON_FOLDER, BINARY_FOLDER = "cifar-10-batches-py", "cifar-10-batches-bin"
TRAIN = [f"data_batch_{number}" for number in range(1, 6)]
BATCHES = made_up_batches(12)

FORMS: dict[str, Callable[[Path], None]] = {
    "python": lambda place: write_files(place, python_files(BATCHES)),
    "python folder": lambda place: write_files(place / PYTHON_FOLDER, python_files(BATCHES)),
    "python archive": lambda place: write_archive(
        place / "cifar-10-python.tar.gz", PYTHON_FOLDER, python_files(BATCHES)
    ),
    "binary": lambda place: write_files(place, binary_files(BATCHES)),
    "binary folder": lambda place: write_files(place / BINARY_FOLDER, binary_files(BATCHES)),
    "binary archive": lambda place: write_archive(
        place / "cifar-10-binary.tar.gz", BINARY_FOLDER, binary_files(BATCHES)
    ),
}


def rows_of(store: Store, dataset: PreparedDataset, split: str) -> Rows:
    (shard,) = dataset.shards(split, rows=10**6)  # type: ignore[arg-type]
    examples = read_shard(store, dataset, shard)
    return examples.inputs.numpy(), examples.labels.tolist()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_published_rows_in_order(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "source")
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    assert is_cifar10(source)
    dataset = prepare(source, out, "cifar10")
    images, labels = rows_of(out, dataset, "train")
    assert images.shape == (60, 3, 32, 32)
    assert images.tobytes() == b"".join(BATCHES[name][0].tobytes() for name in TRAIN)
    assert labels == [label for name in TRAIN for label in BATCHES[name][1]]
    images, labels = rows_of(out, dataset, "test")
    assert np.array_equal(images.reshape(12, -1), BATCHES["test_batch"][0])
    assert labels == BATCHES["test_batch"][1]
    assert dataset.class_names == tuple(NAMES)
    assert dataset.description.input.axes == ("channel", "row", "column")
    for receipt in dataset.description.provenance.sources:
        assert (tmp_path / "source" / receipt.path).stat().st_size == receipt.bytes


def test_all_forms_have_one_fingerprint_and_the_same_shards(tmp_path: Path) -> None:
    shards, prints = [], set()
    for form, write in FORMS.items():
        write(tmp_path / form / "source")
        prints.add(
            prepare(open_store(tmp_path / form / "source"), open_store(tmp_path / form / "out"), "cifar10").fingerprint
        )
        shards.append({name: data for name, data in contents(tmp_path / form / "out").items() if name != DATASET_JSON})
    assert len(prints) == 1
    assert all(files == shards[0] for files in shards)


def test_preparing_again_writes_nothing_and_a_changed_source_everything(tmp_path: Path) -> None:
    FORMS["python"](tmp_path / "source")
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    first = prepare(source, out, "cifar10")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    assert prepare(source, out, "cifar10") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")} == before
    write_files(tmp_path / "source", python_files(made_up_batches(13, seed=4)))
    assert prepare(source, out, "cifar10").rows("train") == 65


@pytest.mark.parametrize("form", ["python", "binary"])
def test_each_missing_or_truncated_file_is_named(tmp_path: Path, form: str) -> None:
    FORMS[form](tmp_path / "source")
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    for path in sorted((tmp_path / "source").iterdir()):
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) * 2 // 3])
        with pytest.raises(DataError, match=f"(at|in) .*source/{path.name}, found"):
            prepare(source, out, "cifar10")
        path.unlink()
        assert is_cifar10(source)
        with pytest.raises(DataError, match=f"expected a file .*source/{path.name}, found none"):
            prepare(source, out, "cifar10")
        path.write_bytes(whole)
    assert not out.exists(DATASET_JSON)


@pytest.mark.parametrize(("form", "ending"), [("python", ""), ("binary", ".bin")])
def test_a_batch_cut_between_rows_is_named(tmp_path: Path, form: str, ending: str) -> None:
    shorter = {**BATCHES, "data_batch_3": (BATCHES["data_batch_3"][0][:-1], BATCHES["data_batch_3"][1][:-1])}
    write_files(tmp_path, (python_files if form == "python" else binary_files)(shorter))
    with pytest.raises(DataError, match=f"expected 12 rows, as .*, in .*data_batch_3{ending}, found 11"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "cifar10")


def test_batches_under_wrong_names_are_named(tmp_path: Path) -> None:
    write_files(tmp_path, python_files(BATCHES))
    (tmp_path / "test_batch").write_bytes(python_batch(BATCHES["test_batch"], "training batch 2 of 5"))
    with pytest.raises(DataError, match=r"'testing batch 1 of 1' in .*test_batch, found 'training batch 2 of 5'"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "cifar10")
    write_files(tmp_path / "b", binary_files({**BATCHES, "data_batch_4": BATCHES["data_batch_2"]}))
    with pytest.raises(DataError, match=r"data_batch_2\.bin and .*data_batch_4\.bin, found the same"):
        prepare(open_store(tmp_path / "b"), open_store(tmp_path / "out"), "cifar10")


def test_a_damaged_archive_and_one_without_a_file_are_named(tmp_path: Path) -> None:
    FORMS["binary archive"](tmp_path)
    path = tmp_path / "cifar-10-binary.tar.gz"
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(DataError, match=r"whole archive at .*cifar-10-binary\.tar\.gz, found a truncated"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "cifar10")
    files = binary_files(BATCHES)
    del files["data_batch_5.bin"]
    write_archive(path, BINARY_FOLDER, files)
    with pytest.raises(DataError, match=r"binary\.tar\.gz/cifar-10-batches-bin/data_batch_5\.bin, found none"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "cifar10")


def test_other_folders_are_not_cifar10(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("data_batch_1")
    assert not is_cifar10(open_store(tmp_path))
    with pytest.raises(DataError, match=r"data_batch_1 to 5.*found none; correct the address"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "cifar10")
