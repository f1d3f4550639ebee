"""A folder's format is recognised, and a run's source becomes prepared shards wherever it starts."""

import io
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from relatif.pipeline.datasets.published import FORMATS, detect, open_source, prepare
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.storage.store import open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import ConfigurationError, DataError
from tests.reference.cifar import binary_files, made_up_batches, python_files, write_archive, write_files
from tests.reference.idx import made_up_digits, write_digits
from tests.support.bad_inputs_files import hub, image_table
from tests.support.labelled import write_points


def labels_of(column: str) -> Reading:
    """Return how data is read whose labels are in a column."""
    return Reading(DataConfig(source=".", label_column=column))


def write_images(folder: Path) -> None:
    folder.mkdir()
    file = io.BytesIO()
    Image.new("RGB", (3, 2)).save(file, "PNG")
    rows = [{"bytes": file.getvalue(), "path": "a.png"}] * 3
    for split in ("train", "test"):
        pq.write_table(pa.table({"image": rows, "label": [0, 1, 1]}), folder / f"{split}.parquet")


def write_names(folder: Path) -> None:
    write_files(folder / "data" / "names", {"Greek.txt": b"Ada\nBob\nCy\n", "Irish.txt": b"Dan\nEve\nFay\n"})


SOURCES: list[tuple[str, Callable[[Path], None], int]] = [
    ("mnist", lambda folder: write_digits(folder, made_up_digits(5, 3)), 5),
    ("cifar10", lambda folder: write_files(folder, python_files(made_up_batches(2))), 10),
    ("cifar10", lambda folder: write_files(folder, binary_files(made_up_batches(2))), 10),
    (
        "cifar10",
        lambda folder: write_archive(
            folder / "cifar-10-binary.tar.gz", "cifar-10-batches-bin", binary_files(made_up_batches(2))
        ),
        10,
    ),
    ("image_parquet", write_images, 3),
    ("surnames", write_names, 4),
]
"""A writer of each published format, with the training rows that it writes."""


def test_formats_are_recognised(tmp_path: Path) -> None:
    write_digits(tmp_path / "source", made_up_digits(5, 3))
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out")
    assert detect(source) == "mnist"
    assert detect(out) is None
    prepare(source, out)
    assert detect(out) == "prepared"


def test_a_published_source_is_prepared_and_a_prepared_one_is_taken(tmp_path: Path) -> None:
    write_digits(tmp_path / "source", made_up_digits(5, 3))
    source, data, unused = (open_store(tmp_path / name) for name in ("source", "run/data", "other/data"))
    store, dataset = open_source(source, data)
    assert store == data
    assert open_source(data, unused) == (data, dataset)
    assert not unused.exists("")


@pytest.mark.parametrize(("name", "write", "rows"), SOURCES)
def test_every_format_is_found_and_opened(tmp_path: Path, name: str, write: Callable[[Path], None], rows: int) -> None:
    write(tmp_path / "source")
    source, data, other = (open_store(tmp_path / folder) for folder in ("source", "run/data", "other"))
    assert detect(source) == name
    store, dataset = open_source(source, data)
    assert (store, dataset.name, dataset.rows("train")) == (data, name, rows)
    assert open_source(data, other) == (data, dataset)
    assert prepare(source, other, name).fingerprint == dataset.fingerprint


def test_every_format_is_tried() -> None:
    assert {name for name, _, _ in SOURCES} == set(FORMATS)


def test_what_is_no_format_is_refused(tmp_path: Path) -> None:
    write_digits(tmp_path / "source", made_up_digits(5, 3))
    (tmp_path / "empty").mkdir()
    source, empty, out = (open_store(tmp_path / name) for name in ("source", "empty", "out"))
    with pytest.raises(DataError, match=r"mnist: .*in .*empty, found none of them"):
        prepare(empty, out)
    with pytest.raises(ConfigurationError, match="found 'cifar'"):
        prepare(source, out, "cifar")
    prepare(source, out)
    with pytest.raises(DataError, match="found a prepared data set"):
        prepare(out, empty)


def test_data_of_other_files_is_not_written_over_that_of_a_run(tmp_path: Path) -> None:
    """A run was begun with what is there: it goes on with the files that it came from, and is refused with others."""
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "out/data")
    (tmp_path / "source").mkdir()
    made = image_table(coarse_label=pa.array([0, 0, 1])).rename_columns(["image", "fine_label", "coarse_label"])
    hub(made, made)(tmp_path / "source")
    _, first = open_source(source, out)
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    with pytest.raises(DataError, match=r"found another class_names, provenance; choose another --out"):
        open_source(source, out, labels_of("coarse_label"))
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before
    assert open_source(source, out) == (out, first)
    out.publish_bytes("dataset.json", b"damaged")
    assert open_source(source, out) == (out, first)


def test_only_formats_with_columns_have_one_to_choose(tmp_path: Path) -> None:
    store = open_store(write_points(tmp_path / "data"))
    assert open_source(store, open_store(tmp_path / "unused"), labels_of("label"))[0] == store
    with pytest.raises(ConfigurationError, match=r"found a prepared data set and data\.label_column = 'other'"):
        open_source(store, open_store(tmp_path / "unused"), labels_of("other"))
