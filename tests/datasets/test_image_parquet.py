"""Image-classification Parquet is read as hubs publish it, in bounded memory; what does not fit is told by name."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.datasets.description import DATASET_JSON
from relatif.pipeline.datasets.image_parquet import is_image_parquet
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.published import prepare
from relatif.pipeline.datasets.shards import PreparedDataset, read_shard
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError, StorageError

REPOSITORY = Path(__file__).resolve().parents[2]
PUBLISHED = REPOSITORY.parent / "shared" / "data" / "cifar10"
SIDE = 6
GENERATOR = np.random.default_rng(0)
TRAIN = GENERATOR.integers(0, 256, (2100, SIDE, SIDE, 3), np.uint8)
TRAIN_LABELS = GENERATOR.integers(0, 4, 2100)
TEST, TEST_LABELS = TRAIN[:30], TRAIN_LABELS[:30]

# Peak memory of 2500 more images, which are 108 MB encoded and as much decoded; allocators keep some of what they free.
MEMORY_GROWTH_BYTES = 50 * 10**6

# Of CIFAR-10: its first labels in the files beside the repository, and rows of every class.
FIRST_TEST_LABELS = [9, 3]
TEST_ROWS_OF_A_CLASS = 1000


def png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def table(images: list[bytes | None], labels: object, *, names: list[str] | None = None) -> pa.Table:
    rows = [{"bytes": image, "path": f"{row}.png"} for row, image in enumerate(images)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    made = pa.table({"img": pa.array(rows, kind), "label": pa.array(labels, pa.int64())})
    hub = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    return made if names is None else made.replace_schema_metadata({"huggingface": json.dumps(hub)})


def write(path: Path, made: pa.Table, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(made, path, **options)


def write_splits(folder: Path, *, names: list[str] | None = None, rows: int = 40) -> None:
    write(folder / "train.parquet", table(list(map(png, TRAIN[:rows])), TRAIN_LABELS[:rows], names=names))
    write(folder / "test.parquet", table(list(map(png, TEST)), TEST_LABELS, names=names))


def rows_of(store: Store, dataset: PreparedDataset, split: str) -> tuple[NDArray[np.uint8], list[int]]:
    (shard,) = dataset.shards(split, rows=10**6)  # type: ignore[arg-type]
    examples = read_shard(store, dataset, shard)
    return examples.inputs.numpy(), examples.labels.tolist()


def test_rows_come_in_order_across_row_groups_and_files(tmp_path: Path) -> None:
    encoded = list(map(png, TRAIN))
    for number, (start, stop) in enumerate(((0, 700), (700, 705), (705, 2100))):
        path = tmp_path / f"source/data/train-{number:05d}-of-00003.parquet"
        write(path, table(encoded[start:stop], TRAIN_LABELS[start:stop]), row_group_size=333)
    write(tmp_path / "source/data/test-00000-of-00001.parquet", table(encoded[:30], TEST_LABELS))
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    assert is_image_parquet(source)
    dataset = prepare(source, out, "image_parquet")
    for split, pixels, expected in (("train", TRAIN, TRAIN_LABELS), ("test", TEST, TEST_LABELS)):
        images, labels = rows_of(out, dataset, split)
        assert np.array_equal(images, pixels.transpose(0, 3, 1, 2))
        assert labels == expected.tolist()
    assert dataset.class_names == ("0", "1", "2", "3")
    assert dataset.description.input.axes == ("channel", "row", "column")
    assert dataset.description.splits["train"].files[0].row_groups == (1000, 1000, 100)


def test_classes_are_named_by_the_hub_s_metadata(tmp_path: Path) -> None:
    names = ["ant", "bee", "cow", "dog", "elk"]  # more than the rows show
    write_splits(tmp_path / "source", names=names)
    dataset = prepare(open_store(tmp_path / "source"), open_store(tmp_path / "out"), "image_parquet")
    assert dataset.class_names == tuple(names)


def test_grey_images_have_one_channel(tmp_path: Path) -> None:
    grey = [png(pixels[..., 0]) for pixels in TEST]
    for split in ("train", "test"):
        write(tmp_path / f"source/{split}.parquet", table(grey, TEST_LABELS))
    out = open_store(tmp_path / "out")
    dataset = prepare(open_store(tmp_path / "source"), out, "image_parquet")
    assert dataset.input_shape == (1, SIDE, SIDE)
    assert np.array_equal(rows_of(out, dataset, "test")[0][:, 0], TEST[..., 0])


def test_preparing_again_writes_nothing_and_elsewhere_the_same_bytes(tmp_path: Path) -> None:
    write_splits(tmp_path / "source")
    source = open_store(tmp_path / "source")
    first = prepare(source, open_store(tmp_path / "a"), "image_parquet")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")}
    assert prepare(source, open_store(tmp_path / "a"), "image_parquet") == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "a").rglob("*")} == before
    prepare(source, open_store(tmp_path / "b"), "image_parquet")
    for path in before:
        assert path.is_dir() or path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_an_image_that_does_not_fit_leaves_nothing_and_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path / "source")
    images: list[bytes | None] = [png(pixels) for pixels in TRAIN]
    images[1500] = png(TRAIN[0, :, :3])
    write(tmp_path / "source/test.parquet", table(images, TRAIN_LABELS))
    with pytest.raises(DataError, match=r"RGB of 6 x 6, .* found RGB of 3 x 6 in row 1500 of .*source/test\.parquet"):
        prepare(open_store(tmp_path / "source"), open_store(tmp_path / "out"), "image_parquet")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("labels", "names", "message"),
    [
        ([0, 1, -1], None, r"from 0 in label of .*test\.parquet, found -1 in row 2"),
        ([0, 99, 1], None, r"from 0 to 42 in .*test\.parquet, found 99 in row 1"),
        ([0, 1, 4], ["a", "b", "c", "d"], r"from 0 to 3 in .*test\.parquet, found 4 in row 2"),
    ],
)
def test_labels_that_make_no_sense_are_named(
    tmp_path: Path, labels: list[int | None], names: list[str] | None, message: str
) -> None:
    write_splits(tmp_path, names=names)
    write(tmp_path / "test.parquet", table(list(map(png, TEST[:3])), labels, names=names))
    with pytest.raises(DataError, match=message):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "image_parquet")


def test_files_that_do_not_belong_together_are_named(tmp_path: Path) -> None:
    write_splits(tmp_path, names=["a", "b", "c", "d"])
    write(tmp_path / "test.parquet", table(list(map(png, TEST)), TEST_LABELS))
    with pytest.raises(DataError, match=r"same columns and classes in .*test\.parquet as in .*train\.parquet"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "image_parquet")


def test_missing_damaged_and_doubled_files_are_named(tmp_path: Path) -> None:
    write_splits(tmp_path)
    source, out = open_store(tmp_path), open_store(tmp_path / "out")
    whole = (tmp_path / "test.parquet").read_bytes()
    (tmp_path / "test.parquet").write_bytes(whole[:-30])
    with pytest.raises(DataError, match=r"whole Parquet file at .*/test\.parquet"):
        prepare(source, out, "image_parquet")
    (tmp_path / "test.parquet").unlink()
    with pytest.raises(DataError, match=r"expected test\.parquet or test-\*\.parquet in .*, found neither"):
        prepare(source, out, "image_parquet")
    (tmp_path / "test-00001-of-00002.parquet").write_bytes(whole)
    with pytest.raises(DataError, match=r"expected 2 shards of test in .*, found none with number 00000"):
        prepare(source, out, "image_parquet")
    (tmp_path / "test.parquet").write_bytes(whole)
    with pytest.raises(DataError, match=r"either test\.parquet or one set of shards .*found test-00001-of-00002"):
        prepare(source, out, "image_parquet")
    assert not out.exists(DATASET_JSON)


def test_memory_does_not_grow_with_the_data_set(tmp_path: Path) -> None:
    side = 120
    images = [png(GENERATOR.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(4)]
    # A single row group whose images stand there one by one, as if they all differed.
    plain = {"use_dictionary": False, "compression": "none", "write_statistics": False, "write_batch_size": 16}
    sizes = []
    for name, rows in (("small", 1000), ("large", 3500)):
        made = table([images[row % 4] for row in range(rows)], np.arange(rows) % 4)
        write(tmp_path / name / "train.parquet", made, **plain)
        write(tmp_path / name / "test.parquet", made.slice(0, 8))
        sizes.append((tmp_path / name / "train.parquet").stat().st_size)
    assert sizes[1] - sizes[0] > 2 * MEMORY_GROWTH_BYTES
    code = """if True:
        import re, sys
        from pathlib import Path
        from relatif.pipeline.datasets import image_parquet
        from relatif.pipeline.datasets.published import prepare
        from relatif.pipeline.storage.store import open_store
        image_parquet.ROW_GROUP_BYTES = 2**23
        folder = open_store(sys.argv[1])
        for name in ("small", "large"):
            prepare(folder.child(name), folder.child("out-" + name), "image_parquet")
            status = Path("/proc/self/status").read_text()
            print(int(re.search(r"VmHWM:\\s*(\\d+) kB", status)[1]) * 1024)
    """
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", code, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    small, large = map(int, ended.stdout.split())
    assert large - small < MEMORY_GROWTH_BYTES


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published files do not lie beside the repository")
def test_cifar10_as_a_hub_publishes_it(tmp_path: Path) -> None:
    rows = {split: pq.read_metadata(PUBLISHED / f"{split}.parquet").num_rows for split in ("train", "test")}
    assert rows == {"train": 50_000, "test": 10_000}
    published = pq.read_table(PUBLISHED / "test.parquet")
    assert np.bincount(published["label"].to_numpy()).tolist() == [TEST_ROWS_OF_A_CLASS] * 10
    for split, part in (("train", published.slice(300, 500)), ("test", published.slice(0, 300))):
        write(tmp_path / f"source/{split}.parquet", part)
    out = open_store(tmp_path / "out")
    dataset = prepare(open_store(tmp_path / "source"), out, "image_parquet")
    images, labels = rows_of(out, dataset, "test")
    assert dataset.input_shape == (3, 32, 32)
    assert dataset.class_names == tuple("0123456789")
    assert labels[:2] == FIRST_TEST_LABELS
    assert labels == published["label"].to_pylist()[:300]
    for row in (0, 257, 299):
        encoded = published["img"][row]["bytes"].as_py()
        assert np.array_equal(images[row].transpose(1, 2, 0), np.asarray(Image.open(io.BytesIO(encoded))))


def test_a_training_example_without_a_label_is_named(tmp_path: Path) -> None:
    write_splits(tmp_path)
    write(tmp_path / "train.parquet", table(list(map(png, TEST[:3])), [0, None, 1]))
    with pytest.raises(DataError, match=r"a label in every row of .*train\.parquet, found none in row 1"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "image_parquet")


@pytest.mark.parametrize("lacking", ["some", "all", "column"])
def test_test_inputs_may_be_without_labels(tmp_path: Path, lacking: str) -> None:
    write_splits(tmp_path / "source", names=["a", "b", "c", "d"])
    labels = {"some": [0, None, 3], "all": [None] * 3, "column": [0] * 3}[lacking]
    test = table(list(map(png, TEST[:3])), labels, names=["a", "b", "c", "d"])
    write(tmp_path / "source/test.parquet", test.drop_columns("label") if lacking == "column" else test)
    out = open_store(tmp_path / "out")
    dataset = prepare(open_store(tmp_path / "source"), out, "image_parquet")
    expected = [0, UNLABELLED, 3] if lacking == "some" else [UNLABELLED] * 3
    assert rows_of(out, dataset, "test")[1] == expected
    assert dataset.description.provenance.unlabelled == expected.count(UNLABELLED)
    stored = pq.read_table(tmp_path / "out/test")["label"].to_pylist()
    assert stored == [None if label == UNLABELLED else label for label in expected]


def test_empty_files_among_shards_hold_no_row(tmp_path: Path) -> None:
    write_splits(tmp_path)
    whole = pq.read_table(tmp_path / "train.parquet")
    (tmp_path / "train.parquet").unlink()
    for number, rows in enumerate((0, 5, 0, 35)):
        write(tmp_path / f"train-{number:05d}-of-00004.parquet", whole.slice(5 if number == 3 else 0, rows))
    out = open_store(tmp_path / "out")
    dataset = prepare(open_store(tmp_path), out, "image_parquet")
    assert np.array_equal(rows_of(out, dataset, "train")[0], TRAIN[:40].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_without_rows_is_refused(tmp_path: Path, split: str) -> None:
    write_splits(tmp_path)
    write(tmp_path / f"{split}.parquet", table([], []))
    with pytest.raises(DataError, match=rf"at least 1 row of {split} in .*{split}\.parquet, found none"):
        prepare(open_store(tmp_path), open_store(tmp_path / "out"), "image_parquet")


def test_the_finer_labels_are_taken_and_said_and_the_others_when_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        made = table(list(map(png, TEST[:3])), [2, 1, 0]).rename_columns(["img", "fine_label"])
        write(tmp_path / f"source/{split}.parquet", made.append_column("coarse_label", pa.array([1, 0, 0])))
    source = open_store(tmp_path / "source")
    for column, labels in ((None, [2, 1, 0]), ("coarse_label", [1, 0, 0])):
        out = open_store(tmp_path / str(column))
        dataset = prepare(source, out, "image_parquet", label_column=column)
        assert rows_of(out, dataset, "train")[1] == labels
        assert dataset.description.provenance.label_column == (column or "fine_label")
        assert ("labels: fine_label; coarse_label is there too" in capsys.readouterr().err) is (column is None)


def test_symbolic_links_are_followed_and_broken_ones_named(tmp_path: Path) -> None:
    write_splits(tmp_path / "blobs")
    source = tmp_path / "hub/snapshots/abc/data"
    source.mkdir(parents=True)
    for split in ("train", "test"):
        (source / f"{split}-00000-of-00001-0a1b2c.parquet").symlink_to(tmp_path / f"blobs/{split}.parquet")
    dataset = prepare(open_store(source.parent), open_store(tmp_path / "out"), "image_parquet")
    assert dataset.rows("train") == 40
    (tmp_path / "blobs/test.parquet").unlink()
    with pytest.raises(StorageError, match=r"what the symbolic link .*test-00000-of-00001.* points to, found nothing"):
        prepare(open_store(source.parent), open_store(tmp_path / "other"), "image_parquet")


def test_test_inputs_without_labels_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_splits(tmp_path)
    write(tmp_path / "test.parquet", table(list(map(png, TEST[:3])), [0, None, None]))
    prepare(open_store(tmp_path), open_store(tmp_path / "out"), "image_parquet")
    assert "labels: 2 of 3 test inputs have none" in capsys.readouterr().err
