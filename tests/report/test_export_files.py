"""Exported files are read back, by other readers than their writers, as the rows that were given."""

import json
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import csv

from relatif.pipeline.report.export_files import format_of, write_rows
from relatif.pipeline.report.exporting import Exported
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import ConfigurationError, DataError

SCHEMA = pa.schema(
    [
        pa.field("text", pa.string()),
        pa.field("score", pa.float32()),
        pa.field("change", pa.float64()),
        pa.field("row", pa.int64()),
        pa.field("target", pa.list_(pa.field("element", pa.float64()))),
    ]
)
ROWS: list[dict[str, Any]] = [
    {"text": 'a, "b"\nc', "score": np.float32(0.1), "change": 0.1, "row": 2**60, "target": [0.1, None]},
    {"text": "", "score": np.float32(1e-30), "change": -1e300, "row": 0, "target": []},
    {"text": None, "score": None, "change": None, "row": -1, "target": None},
    {"text": "漢字; =1+1", "score": np.float32(1 / 3), "change": 1 / 3, "row": 1, "target": [1.0]},
]


def given(rows: list[dict[str, Any]] = ROWS) -> Exported:
    table = pa.Table.from_pylist(rows, SCHEMA)
    return Exported(SCHEMA, iter(table.to_batches(max_chunksize=3)))


def test_csv_is_read_back(tmp_path: Path) -> None:
    assert write_rows(open_store(tmp_path), "a.csv", given()) == len(ROWS)
    types = {field.name: pa.string() if field.name == "target" else field.type for field in SCHEMA}
    options = csv.ConvertOptions(column_types=types, strings_can_be_null=True, quoted_strings_can_be_null=False)
    parsing = csv.ParseOptions(newlines_in_values=True)
    found = csv.read_csv(tmp_path / "a.csv", convert_options=options, parse_options=parsing).to_pylist()
    for row in found:
        row["target"] = None if row["target"] is None else json.loads(row["target"])
    assert found == ROWS


def test_json_lines_are_read_back_by_the_standard_library_and_by_duckdb(tmp_path: Path) -> None:
    assert write_rows(open_store(tmp_path), "a.jsonl", given()) == len(ROWS)
    found = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().split("\n")[:-1]]
    assert found == ROWS
    with duckdb.connect() as connection:
        read = connection.execute(f"SELECT text, row FROM read_json('{tmp_path}/a.jsonl')").fetchall()
    assert read == [(row["text"], row["row"]) for row in ROWS]


def test_parquet_keeps_every_bit_and_the_meanings(tmp_path: Path) -> None:
    write_rows(open_store(tmp_path), "a.parquet", given())
    found = pq.read_table(tmp_path / "a.parquet")
    assert found.schema == SCHEMA
    assert found.to_pylist() == ROWS


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_table_without_rows_is_a_file_without_rows(tmp_path: Path, name: str) -> None:
    assert write_rows(open_store(tmp_path), name, given([])) == 0
    if not name.endswith("jsonl"):
        read = csv.read_csv if name.endswith("csv") else pq.read_table
        assert read(tmp_path / name).column_names == SCHEMA.names


def test_a_number_that_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    bad = [{**ROWS[0], "change": float("nan")}]
    with pytest.raises(DataError, match=r"expected finite numbers.*export as Parquet"):
        write_rows(open_store(tmp_path), "a.jsonl", given(bad))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.xlsx", "csv", "", "a.csv.gz"])
def test_another_end_of_the_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"ends in \.csv, \.jsonl, \.parquet, found"):
        format_of(name)
