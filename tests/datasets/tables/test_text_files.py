"""Texts of CSV and JSON Lines become numbers where they are numbers, and stay names where they are names."""

from pathlib import Path

import pyarrow as pa
import pytest

from relatif.pipeline.datasets.tables.text_files import FORMS, converted, settled
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import examples, ids, opened


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "-20", "0"], pa.int64()),
        (["1", "NA", ""], pa.int64()),
        (["123456789012345678"], pa.int64()),
        (["1", "2.5"], pa.float64()),
        (["+1.5", "-.5", "3.", "1e-3", "inf"], pa.float64()),
        (["12345678901234567890.5"], pa.float64()),
        (["True", "false"], pa.bool_()),
        (["007", "070"], pa.string()),
        (["00.5"], pa.string()),
        (["1234567890123456789"], pa.string()),
        (["1,5"], pa.string()),
        (["0x10"], pa.string()),
        (["1_000"], pa.string()),
        (["\uff11"], pa.string()),
    ],
)
def test_what_looks_like_a_number_is_one_and_a_name_is_none(texts: list[str], kind: pa.DataType) -> None:
    column = pa.array(texts)
    found = [*settled(list(FORMS), column), pa.string()][0]
    assert found == kind
    values = converted(column, found).to_pylist()
    expected = [None if text in ("NA", "") and kind != pa.string() else text for text in texts]
    if kind in (pa.int64(), pa.float64()):
        number = int if kind == pa.int64() else float
        assert values == [None if text is None else number(text) for text in expected]
    elif kind == pa.string():
        assert values == texts


def write(folder: Path, text: str, suffix: str = "csv") -> Path:
    folder.mkdir()
    for part in ("train", "test"):
        (folder / f"{part}.{suffix}").write_text(text)
    return folder


def test_identifiers_and_classes_keep_their_zeros_and_digits(tmp_path: Path) -> None:
    rows = "case,a,label\n007,1,01\n7,2,1\n1234567890123456789,3,01\n"
    store, dataset = opened(write(tmp_path / "source", rows), tmp_path, id_column="case", input_columns=("a",))
    assert ids(store, dataset, "train") == ["007", "7", "1234567890123456789"]
    assert dataset.class_names == ("01", "1")
    assert examples(store, dataset, "train").labels.tolist() == [0, 1, 0]


def test_letters_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    source = write(tmp_path / "source", '{"a": 1, "label": "\\ud800"}\n{"a": 2, "label": "x"}\n', "jsonl")
    with pytest.raises(DataError, match=r"rows 0 to 1, found 'utf-8' codec can't encode .*; write them alike"):
        opened(source, tmp_path)
