"""Whether a training part is the same is decided by its rows, where neither files nor settings can tell."""

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.datasets.tables.reading import Examples, OwnReader
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.datasets.tables.test_published import people
from tests.datasets.test_renewing import Case, made_of, read, require_only_named
from tests.support.runs import file_bytes


def test_rows_of_one_file_are_told_by_what_they_are(tmp_path: Path) -> None:
    """With a column of parts, the file of the training rows changes with the test rows: the rows decide."""
    case = Case(tmp_path, split_column="part", input_columns=("age",))
    for old in case.source.iterdir():
        old.unlink()
    train = [{**row, "part": "train"} for row in people(30)]
    test, others = ([{**row, "part": "test"} for row in people(6, first=first)] for first in (100, 200))
    case.part("all", train + test)
    first = case.prepare()
    before = file_bytes(case.out, "train/*")

    case.part("all", train + others)
    found = case.prepare(made_of(first))
    assert file_bytes(case.out, "train/*") == before
    assert found.fingerprint == case.prepare(out=tmp_path / "fresh").fingerprint != first.fingerprint
    require_only_named(case, found)

    case.part("all", [{**train[0], "age": 55}, *train[1:], *others])
    with pytest.raises(DataError, match=r"all\.csv changed"):
        case.prepare(made_of(first))
    require_only_named(case, found)


def test_a_test_file_that_changes_how_training_rows_are_read_is_refused(tmp_path: Path) -> None:
    """A column of whole numbers holds fractions for all parts once a test row has one, and a reader may tell them."""

    def typed(batch: pa.RecordBatch) -> Examples:
        whole = pa.types.is_integer(batch.schema.field("age").type)
        return replace(read(batch), inputs=read(batch).inputs + (0 if whole else 1))

    case = Case(tmp_path, "read of the task")
    case.own = OwnReader(typed, "1")
    first = case.prepare()
    before = file_bytes(case.out)
    case.part("test", [{**row, "age": row["age"] + 0.5} for row in people(9, first=100)])
    with pytest.raises(DataError, match="all files together settle the types of columns"):
        case.prepare(made_of(first))
    assert file_bytes(case.out) == before


def test_image_parquet_takes_another_part_though_another_reader_reads_it(tmp_path: Path) -> None:
    """Files named train and test are a published format, other parts those of a table: the pixels are the same."""
    case = Case(tmp_path, "parquet", id_column=None)
    shutil.rmtree(case.source)
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, seed in (("train", 0), ("test", 30), ("ask", 60)):
        encoded = []
        for number in range(10):
            file = io.BytesIO()
            Image.new("L", (4, 4), seed + number).save(file, "PNG")
            encoded.append({"bytes": file.getvalue(), "path": None})
        case.source.mkdir(exist_ok=True)
        columns = {"image": pa.array(encoded, image), "label": [number % 2 for number in range(10)]}
        pq.write_table(pa.table(columns), case.source / f"{name}.parquet")
    first = case.prepare()
    assert first.name == "image_parquet"
    before = file_bytes(case.out, "train/*")
    found = case.prepare(made_of(first), test="ask")
    assert file_bytes(case.out, "train/*") == before
    (shard,) = found.shards("ask", rows=100)
    read_back = read_shard(open_store(case.out), found, shard)
    assert read_back.inputs[:, 0, 0, 0].tolist() == list(range(60, 70))
    require_only_named(case, found)
