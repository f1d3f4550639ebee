"""Labels become the classes that were meant, and what may be meant otherwise is refused."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.datasets.tables.classes import NamesOf, classes_of
from relatif.pipeline.datasets.tables.columns import Columns
from relatif.pipeline.datasets.tables.files import table_files
from relatif.pipeline.datasets.tables.rows import open_table
from relatif.pipeline.datasets.tables.survey import survey
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import examples, opened


def labelled(
    folder: Path, labels: list[Any], names: tuple[str, ...] | None, given_by: NamesOf = "settings"
) -> tuple[tuple[str, ...], list[int]]:
    """Return the classes of a table with these labels, and the class of each row."""
    pq.write_table(pa.table({"a": range(len(labels)), "label": labels}), folder / "train.parquet")
    store = open_store(folder)
    table = open_table(store, table_files(store, ()))
    part, _ = survey(table, table.of("train"), Columns("numbers", ("a",), ("label",), is_class=True))
    found, classes = classes_of({"train": part}, "train", names, table, given_by)
    return found, classes["train"].tolist()


def test_numbers_beside_the_datas_own_names_are_their_places(tmp_path: Path) -> None:
    assert labelled(tmp_path, [0, 1, 1], ("1", "0"), "data") == (("1", "0"), [0, 1, 1])
    assert labelled(tmp_path, [1, 2, 1], ("1", "2", "3"), "data") == (("1", "2", "3"), [1, 2, 1])


def test_an_export_of_hugging_face_is_read_so(tmp_path: Path) -> None:
    info = {"info": {"features": {"label": {"names": ["1", "0"], "_type": "ClassLabel"}}}}
    schema = pa.schema([("a", pa.int64()), ("label", pa.int64())], metadata={"huggingface": json.dumps(info)})
    source = tmp_path / "source"
    source.mkdir()
    for part in ("train", "test"):
        pq.write_table(pa.table({"a": [1, 2, 3], "label": [0, 1, 1]}, schema=schema), source / f"{part}.parquet")
    store, dataset = opened(source, tmp_path)
    assert dataset.class_names == ("1", "0")
    assert examples(store, dataset, "train").labels.tolist() == [0, 1, 1]


def test_names_of_the_settings_are_the_labels_where_all_labels_are_names(tmp_path: Path) -> None:
    assert labelled(tmp_path, [1, -1, 1], ("-1", "1")) == (("-1", "1"), [1, 0, 1])
    assert labelled(tmp_path, [0, 1, 1], ("no", "yes")) == (("no", "yes"), [0, 1, 1])
    assert labelled(tmp_path, [0, 1, 1], ("1", "0")) == (("1", "0"), [1, 0, 0])


def test_names_of_a_checkpoint_are_taken_where_they_leave_no_doubt(tmp_path: Path) -> None:
    stars = ("1", "2", "3")
    assert labelled(tmp_path, [3, 1, 2], stars, "checkpoint") == (stars, [2, 0, 1])
    assert labelled(tmp_path, [0, 1, 2], stars, "checkpoint") == (stars, [0, 1, 2])
    assert labelled(tmp_path, [0, 1], ("0", "1"), "checkpoint") == (("0", "1"), [0, 1])
    with pytest.raises(DataError, match=r"numbers or names of the classes 1, 2, 3 .* \[1, 2\], which may be both"):
        labelled(tmp_path, [1, 2, 1], stars, "checkpoint")


@pytest.mark.parametrize("other", ["cat ", "\u00a0cat", "caf\u00e9"])
def test_classes_that_hardly_differ_are_refused_by_row(tmp_path: Path, other: str) -> None:
    one = "cafe\u0301" if "caf" in other else "cat"
    with pytest.raises(DataError, match=r"differ by more than spaces .* in row 2 of .*train\.parquet; write"):
        labelled(tmp_path, ["dog", one, other], None)
    assert labelled(tmp_path, ["cat", "Cat", "cat"], None) == (("Cat", "cat"), [1, 0, 1])


def test_bytes_are_no_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found the bytes b'u' in row 0"):
        labelled(tmp_path, [b"u", b"v"], None)


def test_a_folder_without_a_value_gives_no_label_and_zeros_in_front_are_kept(tmp_path: Path) -> None:
    for name, label in (("train", "01"), ("train", "1"), ("test", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "source" / name / f"label={label}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"a": [1.0, 2.0]}), folder / "x.parquet")
    store, dataset = opened(tmp_path / "source", tmp_path)
    assert dataset.class_names == ("01", "1")
    assert examples(store, dataset, "train").labels.tolist() == [0, 0, 1, 1]
    assert examples(store, dataset, "test").labels.tolist() == [-1, -1]
