"""IDX files are read exactly or refused by name."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.idx import find_idx, parse_idx, read_images, read_labels
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.reference.idx import idx_bytes

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), np.uint8)
LABELS = np.array([3, 1, 4, 1, 5], np.uint8)
WHOLE = idx_bytes(IMAGES)


@pytest.mark.parametrize("data", [WHOLE, gzip.compress(WHOLE)], ids=["plain", "gzip"])
def test_values_and_axes_are_kept(data: bytes) -> None:
    assert np.array_equal(parse_idx(data, "file"), IMAGES)


@pytest.mark.parametrize(
    ("code", "kind"), [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")]
)
def test_every_type_of_the_format(code: int, kind: str) -> None:
    array = np.array([[1, 2, 3], [-4 if kind != ">u1" else 4, 5, 6]], kind)
    data = bytes([0, 0, code, 2]) + (2).to_bytes(4, "big") + (3).to_bytes(4, "big") + array.tobytes()
    assert np.array_equal(parse_idx(data, "file"), array)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with ''"),
        (b"\x00\x00\x08", "begins with '00 00 08'"),
        (b"PAR1" + WHOLE, "begins with '50 41 52 31'"),
        (b"\x00\x00\x07\x03" + WHOLE[4:], "begins with '00 00 07 03'"),
        (WHOLE[:10], "end of the file .truncated"),
        (WHOLE[:-1], "truncated"),
        (WHOLE + b"\0", "too long"),
        (gzip.compress(WHOLE)[:-20], "truncated or damaged"),
        (gzip.compress(WHOLE)[:20] + b"garbage" * 99, "truncated or damaged"),
        (gzip.compress(WHOLE[:-1]), "truncated"),
    ],
)
def test_damage_is_told_by_name(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=f"some/file.*{message}"):
        parse_idx(data, "some/file")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-images.idx3-ubyte"])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_published_names_are_found(tmp_path: Path, name: str, ending: str) -> None:
    data = gzip.compress(WHOLE) if ending else WHOLE
    (tmp_path / (name + ending)).write_bytes(data)
    store = open_store(tmp_path)
    assert find_idx(store, "train-images", 3) == name + ending
    assert find_idx(store, "train-labels", 1) is None
    images, receipt = read_images(store, "train-images", (28, 28))
    assert np.array_equal(images, IMAGES)
    assert (receipt.path, receipt.bytes) == (name + ending, len(data))


def test_a_gz_name_with_plain_contents_is_read(tmp_path: Path) -> None:
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(WHOLE)
    assert np.array_equal(read_images(open_store(tmp_path), "train-images", (28, 28))[0], IMAGES)


def test_mislabelled_and_wrong_files_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz in .*found neither"):
        read_images(store, "train-images", (28, 28))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(LABELS))
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.*not what its name says"):
        read_images(store, "train-images", (28, 28))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(WHOLE)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte.*not what its name says"):
        read_labels(store, "train-labels", 10)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(IMAGES[:, :, 1:]))
    with pytest.raises(DataError, match=r"28 x 28 pixels in .*train-images-idx3-ubyte, found 28 x 27"):
        read_images(store, "train-images", (28, 28))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([1, 2, 10], np.uint8)))
    with pytest.raises(DataError, match=r"0 to 9 in .*train-labels-idx1-ubyte, found 10 in row 2"):
        read_labels(store, "train-labels", 10)
