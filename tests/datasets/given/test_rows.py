"""Rows that a user gives are read as the data's own: value by value the rows that lie in the prepared data set."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch

from relatif.pipeline.datasets.description import Subject
from relatif.pipeline.datasets.given.rows import StoredRow, read_row
from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.datasets.tables.reading import Examples, OwnReader, Reading
from relatif.pipeline.inputs import named
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import FEATURES, ROWS, WRITERS, opened
from tests.datasets.tables.test_readers import folder_of, words

DAYS = ("Mon", "Tue")


def read(batch: pa.RecordBatch) -> Examples:
    """Return degrees and the day's number as inputs, and the count as target."""
    days = [DAYS.index(day) for day in batch["day"].to_pylist()]
    inputs = torch.tensor([batch["degrees"].to_pylist(), days], dtype=torch.float32).T
    return Examples(inputs, torch.tensor(batch["count"].to_pylist(), dtype=torch.float32)[:, None])


Case = tuple[Subject, Reading, list[dict[str, Any]], list[StoredRow]]


def prepared(tmp_path: Path, rows: dict[str, list[dict[str, Any]]], own: OwnReader | None = None, **given: Any) -> Case:
    """Prepare a table; return its description, how it is read, its test rows, and the same as they are stored."""
    source = folder_of(tmp_path, {f"{part}.jsonl": "\n".join(map(json.dumps, rows[part])) for part in rows})
    store, dataset = opened(source, tmp_path, own, **given)
    stored = read_shard(store, dataset, dataset.shards("test", rows=1000)[0])
    reading = Reading(DataConfig(source=str(source), **given), own, begun=None)
    every = []
    for row in range(len(rows["test"])):
        inputs = {name: each[row : row + 1] for name, each in named(stored.inputs).items()}
        every.append(StoredRow(inputs, stored.labels[row : row + 1]))  # type: ignore[arg-type]
    return dataset.description, reading, rows["test"], every


def same(found: StoredRow, expected: StoredRow) -> bool:
    inputs = named(found.inputs)
    assert inputs.keys() == expected.inputs.keys()  # type: ignore[union-attr]
    each = [torch.equal(inputs[name], value) for name, value in expected.inputs.items()]  # type: ignore[union-attr]
    return all(each) and torch.equal(found.targets.nan_to_num(), expected.targets.nan_to_num())


def texts(part: str) -> list[dict[str, Any]]:
    said = ("a good film", "bad bad a film a good bad", "film") if part == "train" else ("a bad film good", "good odd")
    return [{"text": text, "label": ("neg", "pos")[place % 2]} for place, text in enumerate(said)]


def counts(part: str) -> list[dict[str, Any]]:
    return [{"day": DAYS[row % 2], "degrees": row / 7, "count": row} for row in range(len(part))]


def several(part: str) -> list[dict[str, Any]]:
    return [{"x": row / 3, "z": row % 2 == 0, "one": row % 2, "other": 1 - row % 2} for row in range(len(part))]


def tokens(part: str) -> list[dict[str, Any]]:
    return [{"input_ids": list(range(1, 2 + row)), "label": row % 2} for row in range(len(part))]


CASES: dict[str, Callable[[Path], Case]] = {
    "numbers": lambda path: prepared(path, ROWS, id_column="case", input_columns=FEATURES),
    "texts": lambda path: prepared(path, {each: texts(each) for each in ("train", "test")}, tokenizer=words(path),
                                   max_length=3),
    "tokens": lambda path: prepared(path, {each: tokens(each) for each in ("train", "test")}, max_length=3),
    "own": lambda path: prepared(path, {each: counts(each) for each in ("train", "test")}, OwnReader(read, "1")),
    "labels": lambda path: prepared(path, {each: several(each) for each in ("train", "test")},
                                    label_column=("one", "other")),
    "targets": lambda path: prepared(path, {each: several(each) for each in ("train", "test")},
                                     target_columns=("one", "x"), input_columns=("z", "other")),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_datas_own_rows_are_read_as_they_are_stored(name: str, tmp_path: Path) -> None:
    subject, reading, rows, stored = CASES[name](tmp_path)
    assert len(rows) > 1
    for row, expected in zip(rows, stored, strict=True):
        assert same(read_row(row, subject, reading, "the row"), expected)


def test_a_row_of_a_csv_file_is_read_alike(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        WRITERS["csv"](tmp_path / "source" / part, rows)
    given = {"id_column": "case", "input_columns": FEATURES}
    store, dataset = opened(tmp_path / "source", tmp_path, **given)
    stored = read_shard(store, dataset, dataset.shards("test", rows=100)[0])
    reading = Reading(DataConfig(source=str(tmp_path), **given))
    for place, row in enumerate(ROWS["test"]):
        found = read_row(row, dataset.description, reading, "the row")
        assert torch.equal(found.inputs, stored.inputs[place : place + 1])  # type: ignore[index, arg-type]
        assert found.targets.tolist() == [int(stored.labels[place])]


def test_a_label_may_be_left_out_and_what_nobody_reads_is_told(tmp_path: Path) -> None:
    subject, reading, _, _ = CASES["numbers"](tmp_path)
    found = read_row({"age": 4, "height": 1.5, "member": True, "colour": "red"}, subject, reading, "the row")
    assert found.targets.tolist() == [-1]
    assert found.notes == ("the model does not read colour",)
    assert read_row({"age": 4, "height": 1.5, "member": True, "label": "yes"}, subject, reading, "it").targets == 1


def test_numbers_to_predict_may_be_left_out_together(tmp_path: Path) -> None:
    subject, reading, _, _ = CASES["targets"](tmp_path)
    assert read_row({"z": True, "other": 1}, subject, reading, "the row").targets.isnan().tolist() == [[True, True]]
    with pytest.raises(DataError, match="all of one, x in the row, or none, found no 'one'"):
        read_row({"z": True, "other": 1, "x": 2}, subject, reading, "the row")


def test_what_a_tokenizer_did_is_told(tmp_path: Path) -> None:
    subject, reading, _, _ = CASES["texts"](tmp_path)
    found = read_row({"text": "good odd film bad"}, subject, reading, "the row")
    assert found.text == "good odd film bad"
    assert found.notes == (
        "it was cut from 4 to 3 tokens, as the data's texts are", "the tokenizer does not know 'odd'"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("case", "row", "told"),
    [
        ("numbers", {"age": 4, "member": True}, "columns age, height, member in the row, found no 'height' among age"),
        ("numbers", {"age": "4", "height": 1, "member": True}, "expected numbers in column 'age' of the row, found"),
        ("numbers", {"age": None, "height": 1, "member": True}, "expected numbers in column 'age'"),
        ("numbers", {"age": float("nan"), "height": 1, "member": 0}, "a finite number in column 'age' in row 0 of the"),
        ("numbers", {"age": 2**70, "height": 1, "member": 0}, "in column 'age' of the row, found int"),
        ("numbers", {"age": object(), "height": 1, "member": 0}, "in column 'age' of the row, found object"),
        ("numbers", {"age": 1, "height": 1, "member": 0, "label": "perhaps"}, "the classes no, yes as label in"),
        ("numbers", {"age": 1, "height": 1, "member": 0, "label": 2}, "found 2; correct it, or leave the label out"),
        ("texts", {"words": "good"}, "expected the columns text in the row, found no 'text' among words"),
        ("texts", {"text": None}, "a text in column 'text'"),
        ("tokens", {"input_ids": []}, "at least 1 token"),
        ("tokens", {"input_ids": [1, -2]}, "tokens from 0 on in column 'input_ids'"),
        ("labels", {"x": 1, "z": 0, "one": 2, "other": 0}, "expected 0 or 1 in column 'one' of the row"),
    ],
)  # fmt: skip
def test_what_the_data_could_not_hold_is_refused_by_name(
    case: str, row: dict[str, Any], told: str, tmp_path: Path
) -> None:
    subject, reading, _, _ = CASES[case](tmp_path)
    with pytest.raises(DataError, match=told):
        read_row(row, subject, reading, "the row")


def test_longer_lists_are_cut_only_where_the_datas_were(tmp_path: Path) -> None:
    subject, reading, _, _ = CASES["tokens"](tmp_path)
    found = read_row({"input_ids": [1, 2, 3, 4]}, subject, reading, "the row")
    assert named(found.inputs)[".input_ids"].tolist() == [[1, 2, 3]]
    assert found.notes == ("it was cut from 4 to 3 tokens, as the data's are",)
    whole = Reading(reading.config.model_copy(update={"max_length": None}))
    with pytest.raises(DataError, match=r"at most 3 tokens, as the data's longest list has, .* found 4; shorten it"):
        read_row({"input_ids": [1, 2, 3, 4]}, subject, whole, "the row")


def test_another_tokenizer_or_reader_than_the_datas_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    subject, reading, rows, _ = CASES["texts"](tmp_path / "texts")
    shorter = Reading(reading.config.model_copy(update={"max_length": 2}))
    with pytest.raises(DataError, match="max_length as it was when the data were prepared, found another"):
        read_row(rows[0], subject, shorter, "the row")
    (tmp_path / "own").mkdir()
    subject, reading, rows, _ = CASES["own"](tmp_path / "own")
    with pytest.raises(DataError, match="the task's read as it was when the data were prepared"):
        read_row(rows[0], subject, Reading(reading.config, OwnReader(read, "2")), "the row")
