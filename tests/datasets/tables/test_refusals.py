"""What can't be read of a table is told in one line, by file and row."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from relatif.pipeline.datasets.tables.reading import Examples, OwnReader
from relatif.schemas.errors import DataError, RelatifError, TaskError
from tests.datasets.tables.test_published import opened
from tests.datasets.tables.test_readers import animation, folder_of, picture, words

TRAIN = "age,name,label\n1,a,no\n2,b,yes\n3,c,no\n4,d,yes\n"
TEST = "age,name,label\n5,e,no\n"


WRONG: dict[str, tuple[dict[str, str | bytes], dict[str, Any], str]] = {
    "nothing": (
        {"notes.txt": "x"},
        {"hold_out": 0.5},
        "expected Parquet, CSV or JSON Lines, pictures .*found none of them",
    ),
    "no test": ({"train.csv": TRAIN}, {"id_column": "name"}, "a part 'test' in .*, found train; .*data.hold_out"),
    "one table": (
        {"people.csv": TRAIN},
        {"id_column": "name"},
        "a part 'train' in .*, found one table; .*split_column",
    ),
    "test beside hold-out": ({"train.csv": TRAIN, "test.csv": TEST}, {"hold_out": 0.5}, "no part 'test' .* beside"),
    "two tables": (
        {"a/train.csv": TRAIN, "b/train.csv": TRAIN, "a/test.csv": TEST},
        {},
        "files of one table .* found some in a, b",
    ),
    "a part twice": (
        {"train/a.csv": TRAIN, "train.csv": TRAIN, "test.csv": TEST},
        {"id_column": "name"},
        r"files of part 'train' in .* in one place, found train/a\.csv and train\.csv; take one of them away",
    ),
    "two kinds": ({"train.csv": TRAIN, "test.jsonl": "{}"}, {}, "files of one kind .* found CSV and JSON Lines"),
    "missing shard": (
        {"train-00000-of-00002.csv": TRAIN, "test.csv": TEST},
        {"id_column": "name"},
        "",
    ),
    "missing column": (
        {"train.csv": TRAIN, "test.csv": "age,label\n1,no\n"},
        {"id_column": "name"},
        r"columns of .*test\.csv, found no 'name'",
    ),
    "no such column": ({"a.csv": TRAIN}, {"hold_out": 0.5, "id_column": "nome"}, "a column 'nome' in .*, found age"),
    "no label column": ({"a.csv": "a,b\n1,2\n"}, {"hold_out": 0.5}, "one column of labels .* found none among a"),
    "inputs in doubt": ({"a.csv": TRAIN}, {"hold_out": 0.5}, "to tell the inputs by their types .* data.input_columns"),
    "a counter": ({"a.csv": "id,x,y\n1,2,0\n2,3,1\n"}, {"hold_out": 0.5}, r"\(id may be none\); name them by"),
    "null": (
        {"a.csv": TRAIN.replace("3,", ",")},
        {"hold_out": 0.5, "id_column": "name"},
        r"a finite number in column 'age' in row 2 of .*a\.csv, found none",
    ),
    "infinite": (
        {"a.csv": TRAIN.replace("3,", "inf,")},
        {"hold_out": 0.5, "id_column": "name"},
        "row 2 of .*, found inf",
    ),
    "a text among numbers": (
        {"a.csv": TRAIN.replace("3,", "three,")},
        {"hold_out": 0.5, "input_columns": ("age",)},
        "set data.tokenizer",
    ),
    "no label": (
        {"a.csv": TRAIN.replace("c,no", "c,")},
        {"hold_out": 0.25, "id_column": "name", "class_names": ("no", "yes")},
        r"label for each training example, found none in row 2 of .*a\.csv",
    ),
    "unknown label": (
        {"train.csv": TRAIN, "test.csv": TEST.replace("no", "maybe")},
        {"id_column": "name"},
        r"one of the classes no, yes as label, found 'maybe' in row 0 of .*test\.csv; .* data\.class_names",
    ),
    "numbers not from 0": (
        {"a.csv": "x,label\n1,1\n2,1\n3,2\n4,2\n"},
        {"hold_out": 0.5},
        r"class numbers from 0 on .*found 1 to 2; give data\.class_names .*data\.target_columns",
    ),
    "fractions as labels": (
        {"a.csv": "x,label\n1,0.5\n2,0.5\n3,0.1\n4,0.1\n"},
        {"hold_out": 0.5},
        r"texts or whole numbers, found 0\.5 in row \d of .*; .* set data\.target_columns",
    ),
    "several labels that are none": (
        {"train.csv": TRAIN, "test.csv": TEST},
        {"label_column": ("age",), "input_columns": ("age",)},
        "0 or 1 in each of several columns of labels, found 2 in column 'age' in row 1",
    ),
    "an identifier twice": (
        {"a.csv": TRAIN.replace("d,", "b,")},
        {"hold_out": 0.5, "id_column": "name"},
        "an identifier of its own .* 'name', found the same in row 1 of .* and row 3",
    ),
    "no identifier": (
        {"a.csv": TRAIN.replace("d,", ",")},
        {"hold_out": 0.5, "id_column": "name"},
        "identifier in column 'name' in row 3",
    ),
    "a ragged row": (
        {"a.csv": TRAIN + "1,2\n"},
        {"hold_out": 0.5},
        r"a whole table in .*a\.csv, found .*Expected 3 columns",
    ),
    "two columns of a name": ({"a.csv": "x,x\n1,2\n"}, {"hold_out": 0.5}, r"column names in .*, found 'x' twice"),
    "an empty file": ({"a.csv": ""}, {"hold_out": 0.5}, "column names in .*, found none"),
    "only a header": ({"a.csv": "x,label\n"}, {"hold_out": 0.5}, "at least 1 row in .*, found none"),
    "no gzip": ({"a.csv.gz": TRAIN}, {"hold_out": 0.5}, r"a whole table in .*a\.csv\.gz, found Not a gzipped file"),
    "no JSON": (
        {"a.jsonl": '{"x": 1}\n{"x": '},
        {"hold_out": 0.5},
        r"JSON object a line in .*a\.jsonl, found .* in row 1",
    ),
    "a JSON list": ({"a.json": "[1, 2]"}, {"hold_out": 0.5}, "JSON object a line in .*, found a list in row 0"),
    "mixed JSON": (
        {"a.jsonl": '{"x": 1, "label": 0}\n{"x": "one", "label": 1}'},
        {"hold_out": 0.5},
        r"values of one type in each column of .*a\.jsonl, rows 0 to 1",
    ),
    "no Parquet": ({"a.parquet": TRAIN}, {"hold_out": 0.5}, r"a whole Parquet file at .*a\.parquet, found"),
    "no class folder": (
        {"train/a.png": picture(1), "test/cat/b.png": picture(2)},
        {},
        r"folders that name their class, found .*train/a\.png",
    ),
    "sizes": (
        {"train/cat/a.png": picture(1), "test/cat/b.png": picture(2, (7, 5))},
        {},
        r"pictures of 5 x 6, as the first one is, found 5 x 7 in row 0 of .*test/cat/b\.png; set data\.image_size",
    ),
    "modes": (
        {"train/cat/a.png": picture(1), "test/cat/b.png": picture(2, mode="L")},
        {},
        "mode RGB, .* found L .*data.image_mode",
    ),
    "a palette": (
        {"train/cat/a.png": picture(1, mode="P"), "test/cat/b.png": picture(2)},
        {},
        r"grey \(L\) or RGB .*mode P",
    ),
    "a picture of another kind": (
        {"train/cat/a.png": picture(1), "train/dog/b.gif": b"GIF89a", "test/cat/b.png": picture(2)},
        {},
        r"pictures in PNG or JPEG in .*, found .*dog/b\.gif among them; convert it, or take it away",
    ),
    "16 bits a value": (
        {"train/cat/a.png": picture(1, mode="L"), "test/cat/b.png": picture(2, mode="I;16")},
        {"image_mode": "L"},
        r"8 bits a value in row 0 of .*test/cat/b\.png, found 16 bits",
    ),
    "an animation": (
        {"train/cat/a.png": animation(), "test/cat/b.png": picture(2)},
        {"image_mode": "RGB"},
        r"one picture .* row 0 of .*a\.png, found an animation",
    ),
    "a damaged picture": (
        {"train/cat/a.png": picture(1)[:-60], "test/cat/b.png": picture(2)},
        {},
        r"whole PNG or JPEG .* row 0 of .*a\.png",
    ),
    "means": (
        {"train/cat/a.png": picture(1), "test/cat/b.png": picture(2)},
        {"mean": (0.5, 0.5), "std": (1.0, 1.0)},
        "data.mean with a number for each of the 3 channels, found 2",
    ),
    "no tokenizer": (
        {"a.csv": "text,label\na,x\na,x\nb,y\nb,y\n"},
        {"hold_out": 0.5, "tokenizer": "/nowhere"},
        r"a tokenizer in /nowhere/tokenizer\.json, found none; correct data\.tokenizer",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    files, settings, message = WRONG[name]
    if name == "missing shard":
        message = r"expected 2 shards of train in .*, found none with number 00001; fetch it"
    with pytest.raises(RelatifError, match=message) as caught:
        opened(folder_of(tmp_path, files), tmp_path, **settings)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("expected ")
    assert not (tmp_path / "prepared/dataset.json").exists()


def test_other_types_in_a_second_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part, value in (("train", 1.5), ("test", "one")):
        pq.write_table(pa.table({"x": [value], "label": [0]}), tmp_path / f"source/{part}.parquet")
    with pytest.raises(DataError, match=r"column 'x' to be double in .*test\.parquet, .* found string"):
        opened(tmp_path / "source", tmp_path)


def test_a_name_that_two_columns_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part in ("train", "test"):
        twice = pa.table([[1.5], [2.5], [0]], names=["x", "x", "label"])
        pq.write_table(twice, tmp_path / f"source/{part}.parquet")
    with pytest.raises(DataError, match=r"a name of its own for each column of .*\.parquet, found 'x' 2 times"):
        opened(tmp_path / "source", tmp_path)


def test_a_tokenizer_without_padding_or_damaged_is_refused(tmp_path: Path) -> None:
    source = folder_of(tmp_path, {"a.csv": "text,label\na,x\na,x\nb,y\nb,y\n"})
    with pytest.raises(DataError, match=r"a token to pad with .* found none"):
        opened(source, tmp_path, hold_out=0.5, tokenizer=words(tmp_path, padding=False))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(DataError, match=r"a tokenizer in .*, found none that can be read"):
        opened(source, tmp_path, hold_out=0.5, tokenizer=str(tmp_path / "tokenizer.json"))


@pytest.mark.parametrize(
    ("read", "kind", "message"),
    [
        (
            lambda batch: 1 / 0,
            TaskError,
            r"read of the task to turn rows .* ZeroDivisionError.*rows 0 to \d of .*a\.csv",
        ),
        (lambda batch: None, DataError, r"return relatif\.Examples\(inputs, targets\), found None"),
        (lambda batch: Examples([1], torch.zeros(1)), DataError, "tensors as inputs and targets .* found 1"),  # type: ignore[arg-type]
        (lambda batch: Examples(torch.zeros(9, 2), torch.zeros(9, 1)), DataError, "a row for each of the"),
        (lambda batch: Examples(_ones(batch) / 0, _ones(batch).long()[:, 0]), DataError, "finite numbers .*row 0 of"),
        (
            lambda batch: Examples(_ones(batch), 5 * _ones(batch).long()[:, 0]),
            DataError,
            "numbers from 0 to 1 .* found 5",
        ),
        (lambda batch: Examples(_ones(batch) * 1j, _ones(batch)), DataError, "rows of real or whole numbers"),
    ],
)
def test_what_a_tasks_own_reader_does_wrong_is_told_with_its_rows(
    tmp_path: Path, read: Callable[[pa.RecordBatch], Examples], kind: type[RelatifError], message: str
) -> None:
    source = folder_of(tmp_path, {"a.csv": TRAIN})
    with pytest.raises(kind, match=message):
        opened(source, tmp_path, OwnReader(read, "1"), hold_out=0.5, class_names=("no", "yes"))


def _ones(batch: pa.RecordBatch) -> torch.Tensor:
    return torch.ones(batch.num_rows, 2)


def test_runs_and_prepared_data_below_the_source_are_no_part_of_its_table(tmp_path: Path) -> None:
    for name, text in (("train", TRAIN), ("test", TEST)):
        (tmp_path / f"{name}.csv").write_text(text)
    _, first = opened(tmp_path, tmp_path / "runs/a", label_column="label", input_columns=("age",))
    assert (tmp_path / "runs/a/prepared/train/part-00000.parquet").exists()
    (tmp_path / "runs/b").mkdir()
    (tmp_path / "runs/b/run.json").write_text("{}")
    (tmp_path / "runs/b/train.csv").write_text("another,table\n1,2\n")
    _, second = opened(tmp_path, tmp_path / "runs/c", label_column="label", input_columns=("age",))
    assert second.fingerprint == first.fingerprint
