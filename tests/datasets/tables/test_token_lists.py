"""Lists of tokens are padded, cut and masked row by row; what is no sequence of tokens is refused by its row."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import examples

IDS = [[5, 6, 7], [8], [9, 4]]
LABELS = [[0, -100, 1], [1], [-100, 0]]
KINDS = {"ragged": pa.list_(pa.int64()), "large": pa.large_list(pa.int32()), "short": pa.list_(pa.uint16())}


def opened(tmp_path: Path, parts: dict[str, pa.Table | list[dict[str, Any]]], **settings: Any) -> tuple[Store, PreparedDataset]:  # fmt: skip # noqa: E501
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    for name, rows in parts.items():
        if isinstance(rows, pa.Table):
            pq.write_table(rows, source / f"{name}.parquet")
        else:
            (source / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    ignored = settings.pop("ignore_index", -100)
    config = DataConfig.model_validate({"source": str(source), **settings})
    reading = Reading(config, begun=None, ignore_index=ignored)
    return open_source(open_store(source), open_store(tmp_path / "prepared"), reading)


def padded(rows: list[list[int]], length: int, fill: int) -> list[list[int]]:
    return [(row + [fill] * length)[:length] for row in rows]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [None, 2, 5])
def test_lists_become_padded_tokens_with_their_mask_and_targets(tmp_path: Path, kind: str, length: int | None) -> None:
    table = pa.table({"labels": pa.array(LABELS), "input_ids": pa.array(IDS, KINDS[kind])})
    store, dataset = opened(tmp_path, {"train": table, "test": table[1:]}, max_length=length)
    found, wide = examples(store, dataset, "train"), length or 3
    assert isinstance(found.inputs, dict)
    assert found.inputs["input_ids"].tolist() == padded(IDS, wide, 0)
    assert found.inputs["attention_mask"].tolist() == padded([[1] * len(row) for row in IDS], wide, 0)
    assert found.labels.tolist() == padded(LABELS, wide, -100)
    assert dataset.description.provenance.reader == {
        "reader": "tokens",
        "columns": "input_ids",
        "targets": "labels",
        "ignore_index": "-100",
        "max_length": str(wide),
        "padding": "0",
    }


def test_lines_of_json_with_a_mask_of_their_own(tmp_path: Path) -> None:
    mask = [[1, 1, 0], [1], [0, 1]]
    rows = [
        {"text": "x", "input_ids": ids, "attention_mask": each, "token_type_ids": [1] * len(ids), "tags": labels}
        for ids, each, labels in zip(IDS, mask, LABELS, strict=True)
    ]
    store, dataset = opened(tmp_path, {"train": rows, "test": rows[:1]}, label_column="tags")
    found = examples(store, dataset, "train")
    assert isinstance(found.inputs, dict)
    assert list(found.inputs) == ["input_ids", "attention_mask", "token_type_ids"]
    assert found.inputs["attention_mask"].tolist() == padded(mask, 3, 0)
    assert found.inputs["token_type_ids"].tolist() == padded([[1] * len(row) for row in IDS], 3, 0)
    assert found.labels.tolist() == padded(LABELS, 3, -100)


@pytest.mark.parametrize("named", [{}, {"label_column": "input_ids"}, {"input_columns": ("input_ids",), "label_column": "input_ids"}])  # fmt: skip # noqa: E501
def test_a_language_models_targets_are_its_own_tokens(tmp_path: Path, named: dict[str, Any]) -> None:
    table = pa.table({"input_ids": IDS})
    store, dataset = opened(tmp_path, {"train": table, "test": table[:1]}, ignore_index=-7, **named)
    assert examples(store, dataset, "train").labels.tolist() == padded(IDS, 3, -7)


def test_tokens_of_one_class_and_of_numbers(tmp_path: Path) -> None:
    table = pa.table({"words": IDS, "label": ["b", "a", "b"], "score": [0.5, 1.5, 2.5]})
    parts = {"train": table, "test": table}
    store, dataset = opened(tmp_path, parts, input_columns=("words",))
    assert dataset.class_names == ("a", "b")
    assert examples(store, dataset, "train").labels.tolist() == [1, 0, 1]
    given = {"input_columns": ("words",), "target_columns": ("score",)}
    (tmp_path / "other").mkdir()
    store, dataset = opened(tmp_path / "other", parts, **given)
    assert examples(store, dataset, "train").labels.tolist() == [[0.5], [1.5], [2.5]]


def test_test_rows_without_targets_have_none_at_any_token(tmp_path: Path) -> None:
    table = pa.table({"input_ids": IDS, "labels": LABELS})
    without = pa.table({"input_ids": IDS, "labels": pa.array([None, [3], None], pa.list_(pa.int64()))})
    store, dataset = opened(tmp_path, {"train": table, "test": without})
    assert examples(store, dataset, "test").labels.tolist() == [[-1, -1, -1], [3, -100, -100], [-1, -1, -100]]


NONE = pa.list_(pa.int64())
WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no list": ({"input_ids": pa.array([[1], None], NONE)}, {}, "a list in column 'input_ids' in row 1 of .* none"),
    "no number": ({"input_ids": [[1], [1, None]]}, {}, "alone in the list of column 'input_ids' in row 1 of"),
    "no token": ({"input_ids": [[1], []]}, {}, "at least 1 token in column 'input_ids' in row 1 of"),
    "below 0": ({"input_ids": [[1], [2, -1]]}, {}, "tokens from 0 on in column 'input_ids' in row 1 of .*, found -1"),
    "too large": ({"input_ids": pa.array([[1], [2**63]], pa.list_(pa.uint64()))}, {}, "whole numbers of 64 bits"),
    "other lengths": (
        {"input_ids": [[1], [2, 3]], "labels": [[1], [2]]},
        {},
        "as many numbers in column 'labels' as in 'input_ids', 2, in row 1 of .*, found 1; give each token one",
    ),
    "no target": ({"input_ids": [[1], [2]], "labels": pa.array([[1], None], NONE)}, {}, "column 'labels' in row 1 of"),
    "no mask": ({"input_ids": [[1], [2]], "attention_mask": [[1], [2]]}, {}, "0 and 1 in column 'attention_mask'"),
    "real numbers": ({"input_ids": [[1.0], [2.0]], "label": [0, 1]}, {}, r"found input_ids \(list<"),
    "two lists": (
        {"input_ids": [[1], [2]], "others": [[1], [2]], "label": [0, 1]},
        {"input_columns": ("input_ids", "others")},
        r"one of tokens \(with attention_mask and token_type_ids\).*found input_ids \(list of whole numbers\), others",
    ),
    "targets of numbers": (
        {"x": [1.0, 2.0], "labels": [[1], [2]]},
        {},
        "expected lists of tokens beside the lists of targets in column 'labels', found x",
    ),
    "no targets": (
        {"input_ids": [[1], [2]], "sentiment": ["a", "b"]},
        {},
        r"one column of labels .* \(a language model's own tokens by the column that it reads\)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_sequence_of_tokens_is_refused(tmp_path: Path, name: str) -> None:
    columns, settings, message = WRONG[name]
    table = pa.table(columns)
    with pytest.raises(DataError, match=message):
        opened(tmp_path, {"train": table, "test": table[:1]}, **settings)


def test_lists_of_a_fixed_length_and_a_share_held_out(tmp_path: Path) -> None:
    rows = [[row, row + 1, 9] for row in range(12)]
    table = pa.table({"input_ids": pa.array(rows, pa.list_(pa.int32(), 3))})
    store, dataset = opened(tmp_path, {"all": table}, train="all", hold_out=0.25)
    found = [examples(store, dataset, part) for part in ("all", "test")]
    assert [len(each.labels) for each in found] == [9, 3]
    tokens = [row for each in found for row in each.inputs["input_ids"].tolist()]  # type: ignore[call-overload,index]
    assert sorted(tokens) == rows
    assert [row for each in found for row in each.labels.tolist()] == tokens
