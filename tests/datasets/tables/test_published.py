"""Tables of every kind become the examples that they are: compared with what was written, row by row."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch

from relatif.pipeline.datasets.published import open_source
from relatif.pipeline.datasets.shards import PreparedDataset, StoredExamples, read_shard, read_shard_ids
from relatif.pipeline.datasets.tables.reading import Examples, OwnReader, Reading
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import DataConfig
from relatif.schemas.errors import DataError

NAMES = ("no", "yes")
FEATURES = ("age", "height", "member")


def people(count: int, first: int = 0) -> list[dict[str, Any]]:
    """Return rows of numbers, a truth value, an identifier and a label."""
    return [
        {
            "age": (7 * row) % 90,
            "height": round(1.5 + row / 70, 3),
            "member": row % 3 == 0,
            "case": f"p{row}",
            "label": NAMES[(row // 2) % 2],
        }
        for row in range(first, first + count)
    ]


ROWS = {"train": people(30), "test": people(9, first=100)}


def parquet(path: Path, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))


def comma(path: Path, rows: list[dict[str, Any]]) -> None:
    pa_csv.write_csv(pa.Table.from_pylist(rows), path.with_suffix(".csv"))


def semicolon(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = [";".join(rows[0]), *(";".join(map(str, row.values())) for row in rows)]
    with gzip.open(path.with_suffix(".csv.gz"), "wt") as file:
        file.write("\ufeff" + "\r\n".join(lines))


def json_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.with_suffix(".jsonl").write_text("\n".join(map(json.dumps, rows)))


def zipped_json(path: Path, rows: list[dict[str, Any]]) -> None:
    with gzip.open(path.with_suffix(".jsonl.gz"), "wt") as file:
        file.write("\n".join(map(json.dumps, rows)))


WRITERS: dict[str, Callable[[Path, list[dict[str, Any]]], None]] = {
    "parquet": parquet, "csv": comma, "semicolons gzipped": semicolon, "json": json_lines, "json gzipped": zipped_json,
}  # fmt: skip


def opened(
    source: Path, tmp_path: Path, own: OwnReader | None = None, **settings: Any
) -> tuple[Store, PreparedDataset]:
    """Prepare a table into a folder of its own."""
    reading = Reading(DataConfig(source=str(source), **settings), own, begun=None)
    return open_source(open_store(source), open_store(tmp_path / "prepared"), reading)


def examples(store: Store, dataset: PreparedDataset, part: str) -> StoredExamples:
    (shard,) = dataset.shards(part, rows=100_000)
    return read_shard(store, dataset, shard)


def ids(store: Store, dataset: PreparedDataset, part: str) -> list[str] | None:
    (shard,) = dataset.shards(part, rows=100_000)
    return read_shard_ids(store, dataset, shard)


def require_people(store: Store, dataset: PreparedDataset, part: str, rows: list[dict[str, Any]]) -> None:
    found = examples(store, dataset, part)
    expected = torch.tensor([[float(row[name]) for name in FEATURES] for row in rows])
    assert isinstance(found.inputs, torch.Tensor)
    assert torch.equal(found.inputs, expected)
    assert found.labels.tolist() == [NAMES.index(row["label"]) for row in rows]
    assert ids(store, dataset, part) == [row["case"] for row in rows]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_table_of_numbers_is_read_as_it_was_written(tmp_path: Path, kind: str) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        WRITERS[kind](tmp_path / "source" / part, rows)
    (tmp_path / "source/notes.csv").write_text("other,columns\n1,2\n")
    store, dataset = opened(tmp_path / "source", tmp_path, id_column="case")
    assert dataset.class_names == NAMES
    assert dataset.description.id_column == "case"
    for part, rows in ROWS.items():
        require_people(store, dataset, part, rows)
    again = opened(tmp_path / "source", tmp_path, id_column="case")[1]
    assert again.fingerprint == dataset.fingerprint


@pytest.mark.parametrize(
    "layout",
    [
        ("{part}-00000-of-00002", "{part}-00001-of-00002"),
        ("data/{part}-00000-of-00002-0a1b", "data/{part}-00001-of-00002-0a1b"),
        ("default/{part}/0000", "default/{part}/0001"),
        ("default/partial-{part}/0000", "default/partial-{part}/0001"),
        ("{part}/a", "{part}/b"),
        ("year=2020/{part}_x", "year=2021/{part}_x"),
    ],
)
def test_the_files_of_hubs_and_distributed_writers_are_found(tmp_path: Path, layout: tuple[str, str]) -> None:
    for part, rows in ROWS.items():
        for pattern, some in zip(layout, (rows[:4], rows[4:]), strict=True):
            path = tmp_path / "source" / pattern.format(part=part)
            path.parent.mkdir(parents=True, exist_ok=True)
            parquet(path, some)
    store, dataset = opened(tmp_path / "source", tmp_path, id_column="case", input_columns=FEATURES)
    for part, rows in ROWS.items():
        require_people(store, dataset, part, rows)


def test_folders_that_name_a_column_add_it(tmp_path: Path) -> None:
    for year in (2020, 2021):
        for part in ("train", "test"):
            path = tmp_path / f"source/year={year}/split={part}/rows"
            path.parent.mkdir(parents=True)
            parquet(path, ROWS[part][:5])
    given = {"split_column": "split", "input_columns": ("age", "year")}
    store, dataset = opened(tmp_path / "source", tmp_path, **given)
    found = examples(store, dataset, "train").inputs
    assert isinstance(found, torch.Tensor)
    ages = [row["age"] for row in ROWS["train"][:5]]
    assert found.tolist() == [[age, year] for year in (2020, 2021) for age in ages]
    assert dataset.rows("test") == 10


def test_a_share_of_each_class_is_held_out_of_one_file(tmp_path: Path) -> None:
    comma(tmp_path / "people", ROWS["train"])
    source = tmp_path / "people.csv"
    store, dataset = opened(source, tmp_path, hold_out=0.2, id_column="case")
    by_case = {row["case"]: row for row in ROWS["train"]}
    parts = {part: ids(store, dataset, part) or [] for part in ("train", "test")}
    assert sorted(parts["train"] + parts["test"]) == sorted(by_case)
    labels = [by_case[case]["label"] for case in parts["test"]]
    assert {name: labels.count(name) for name in NAMES} == {"no": 3, "yes": 3}
    for part, cases in parts.items():
        require_people(store, dataset, part, [by_case[case] for case in cases])
    other = opened(source, tmp_path / "other", hold_out=0.2, id_column="case")[1]
    assert other.fingerprint == dataset.fingerprint


def test_a_column_names_the_parts_of_one_file(tmp_path: Path) -> None:
    rows = [{**row, "fold": ["fit", "held", "unused"][row["age"] % 3]} for row in ROWS["train"]]
    comma(tmp_path / "people", rows)
    given = {"split_column": "fold", "train": "fit", "test": "held", "id_column": "case", "input_columns": FEATURES}
    store, dataset = opened(tmp_path / "people.csv", tmp_path, **given)
    for part in ("fit", "held"):
        require_people(store, dataset, part, [row for row in rows if row["fold"] == part])


def test_numbers_are_targets_where_they_are_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        comma(tmp_path / "source" / part, rows)
    given = {"input_columns": ("age",), "id_column": "case"}
    store, dataset = opened(tmp_path / "source", tmp_path, target_columns=("height", "member"), **given)
    assert dataset.class_names == ()
    assert dataset.description.target is not None
    assert dataset.description.target.names == ("height", "member")
    expected = torch.tensor([[row["height"], float(row["member"])] for row in ROWS["test"]])
    assert torch.equal(examples(store, dataset, "test").targets, expected)
    store, dataset = opened(tmp_path / "source", tmp_path / "several", label_column=("member",), **given)
    assert examples(store, dataset, "test").targets.tolist() == [[float(row["member"])] for row in ROWS["test"]]


@pytest.mark.parametrize(
    ("settings", "metadata", "checkpoint", "names"),
    [
        ({}, None, None, ("no", "yes")),
        ({"class_names": ("yes", "no")}, ["no", "yes"], ("other", "names"), ("yes", "no")),
        ({}, ["yes", "no"], ("no", "yes", "maybe"), ("yes", "no")),
        ({}, None, ("maybe", "yes", "no"), ("maybe", "yes", "no")),
    ],
)
def test_classes_are_ordered_by_who_names_them(
    tmp_path: Path, settings: dict[str, Any], metadata: list[str] | None, checkpoint: Any, names: tuple[str, ...]
) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        table = pa.Table.from_pylist(rows)
        if metadata is not None:
            told = json.dumps({"info": {"features": {"label": {"names": metadata, "_type": "ClassLabel"}}}})
            table = table.replace_schema_metadata({"huggingface": told})
        pq.write_table(table, tmp_path / f"source/{part}.parquet")
    config = DataConfig(source=str(tmp_path / "source"), input_columns=FEATURES, **settings)
    reading = Reading(config, checkpoint_names=lambda: checkpoint, begun=None)
    store, dataset = open_source(open_store(tmp_path / "source"), open_store(tmp_path / "prepared"), reading)
    assert dataset.class_names == names
    found = examples(store, dataset, "train").labels.tolist()
    assert found == [names.index(row["label"]) for row in ROWS["train"]]


def test_whole_numbers_are_classes_from_zero_or_by_their_names(tmp_path: Path) -> None:
    rows = [{"x": float(row), "label": row % 3 + 1} for row in range(12)]
    comma(tmp_path / "wine", rows)
    with pytest.raises(DataError, match=r"class numbers from 0 on .* found 1 to 3; give data\.class_names .*'1', '2'"):
        opened(tmp_path / "wine.csv", tmp_path, hold_out=0.3)
    store, dataset = opened(tmp_path / "wine.csv", tmp_path, hold_out=0.3, class_names=("3", "2", "1"))
    found = examples(store, dataset, "train")
    assert isinstance(found.inputs, torch.Tensor)
    assert found.labels.tolist() == [2 - int(x) % 3 for x in found.inputs[:, 0]]


def test_a_test_set_may_be_without_labels(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    comma(tmp_path / "source/train", ROWS["train"])
    comma(tmp_path / "source/test", [{key: row[key] for key in row if key != "label"} for row in ROWS["test"]])
    store, dataset = opened(tmp_path / "source", tmp_path, id_column="case")
    assert examples(store, dataset, "test").labels.tolist() == [-1] * 9
    assert dataset.description.provenance.unlabelled == 9


def read(batch: pa.RecordBatch) -> Examples:
    """Read two tensors by name, and a target of two numbers."""
    ages, heights = (torch.tensor(batch.column(name).to_pylist()) for name in ("age", "height"))
    inputs = {"tokens": torch.stack([ages, ages + 1], dim=1), "mask": ages[:, None] > 10}
    return Examples(inputs, torch.stack([heights, -heights], dim=1))


def test_a_tasks_own_reader_makes_the_examples(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        json_lines(tmp_path / "source" / part, rows)
    store, dataset = opened(tmp_path / "source", tmp_path, OwnReader(read, "1"), id_column="case")
    expected = read(pa.RecordBatch.from_pylist(ROWS["train"]))
    found = examples(store, dataset, "train")
    assert isinstance(found.inputs, dict)
    assert isinstance(expected.inputs, dict)
    assert {name: each.dtype for name, each in found.inputs.items()} == {"tokens": torch.int64, "mask": torch.bool}
    for name, tensor in expected.inputs.items():
        assert torch.equal(found.inputs[name], tensor)
    assert torch.equal(found.targets, expected.targets)
    assert ids(store, dataset, "test") == [row["case"] for row in ROWS["test"]]


def test_another_reader_is_refused_where_a_run_was_begun_and_read_anew_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    for part, rows in ROWS.items():
        json_lines(tmp_path / "source" / part, rows)
    source, out = open_store(tmp_path / "source"), open_store(tmp_path / "prepared")

    def negative(batch: pa.RecordBatch) -> Examples:
        found = read(batch)
        return Examples(found.inputs, -found.targets)

    config = DataConfig(source=source.url)
    first = open_source(source, out, Reading(config, OwnReader(read, "1")))[1]
    with pytest.raises(DataError, match="another provenance; choose another --out"):
        open_source(source, out, Reading(config, OwnReader(negative, "2")))
    _, changed = open_source(source, out, Reading(config, OwnReader(negative, "2"), begun=None))
    assert changed.fingerprint != first.fingerprint
    assert torch.equal(examples(out, changed, "test").targets, -read(pa.RecordBatch.from_pylist(ROWS["test"])).targets)


def test_a_large_table_is_read_in_batches(tmp_path: Path) -> None:
    rows = np.arange(25_000)
    table = pa.table({"x": rows / 7, "label": rows % 2})
    pq.write_table(table, tmp_path / "large.parquet")
    store, dataset = opened(tmp_path / "large.parquet", tmp_path, hold_out=0.1)
    train, test = (examples(store, dataset, part) for part in ("train", "test"))
    both = torch.cat([batches_of(train), batches_of(test)])[:, 0].sort().values
    assert torch.equal(both, torch.from_numpy(rows / 7).float())
    for part in (train, test):
        assert torch.equal((batches_of(part)[:, 0] * 7).round().long() % 2, part.labels)


def batches_of(found: StoredExamples) -> torch.Tensor:
    assert isinstance(found.inputs, torch.Tensor)
    return found.inputs
