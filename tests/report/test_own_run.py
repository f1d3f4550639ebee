"""What is printed of a user's own run."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest

from relatif.pipeline.report.own_run import next_steps, own_run_text
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import DataError
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

BEST = {
    "influence": {4: (7, 1, 2), 5: (7, 2, 1), 6: (3, 7, 1)},
    "l_relatif": {4: (2, 1, 7), 5: (2, 7, 1), 6: (1, 7, 2)},
}
"""Training indices by method and test index, best first."""

TEXT = """\
The first example of 3 explanations among 1,200 training examples

method     different  explaining most (train_index x test inputs)
IF                 2  7 x 2, 3 x 1
l-RelatIF          2  2 x 2, 1 x 1

Test input 4 (label 'cat', predicted 'dog') is explained by l-RelatIF by
  1. training example 2 (label 'cat', predicted 'cat')
  2. training example 1 (label 'dog', predicted 'dog')
  3. training example 7 (label 'dog', predicted 'dog')"""


@pytest.fixture
def tables(tmp_path: Path) -> Store:
    store = open_store(tmp_path)
    rows = [
        {"method": method, "test_index": test, "rank": rank, "train_index": train, "score": 1.0}
        for method, tests in BEST.items()
        for test, trains in tests.items()
        for rank, train in enumerate(trains, start=1)
    ]
    written(store, TOP_K, rows)
    written(store, TEST_EXAMPLES, [{"test_index": test, "label": 0, "predicted_label": 1} for test in (4, 5, 6)])
    written(store, TRAIN_EXAMPLES, [row(index) for index in range(8)])
    return store


def row(index: int) -> dict[str, int]:
    return {"train_index": index, "label": index % 2, "predicted_label": index % 2}


def written(store: Store, spec: TableSpec, rows: list[dict[str, Any]]) -> None:
    numbers = {
        field.name: 0 for field in spec.schema if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
    }
    table = pa.Table.from_pylist([numbers | row for row in rows], schema=spec.schema)
    write_table(store, f"{spec.name}/part-00000.parquet", table, spec, {})


def run(classes: int | None) -> Any:
    dataset = SimpleNamespace(class_name=lambda label: ("cat", "dog")[label])
    task = SimpleNamespace(likelihood=SimpleNamespace(classes=classes))
    config = SimpleNamespace(data=SimpleNamespace(scored=None))
    return SimpleNamespace(scored_rows=1200, task=task, dataset=dataset, config=config)


def test_a_run_is_told_by_its_most_explaining_examples_and_one_explanation(tables: Store) -> None:
    assert own_run_text(run(2), tables) == TEXT


def test_targets_that_are_no_classes_are_told_as_numbers(tables: Store) -> None:
    text = own_run_text(run(None), tables)
    assert "Test input 4 is explained by l-RelatIF by\n  1. training example 2\n" in text

    written(tables, TEST_EXAMPLES, [{"test_index": 4, "target": [22.0], "prediction": [None, 23.14159]}])
    many = [3.0, float("nan"), 1.0, 4.0, 1.0, 5.0]
    written(tables, TRAIN_EXAMPLES, [row(index) | {"target": many, "prediction": many[:1]} for index in range(8)])
    text = own_run_text(run(None), tables)
    assert "Test input 4 (target 22, prediction -, 23.14) is explained by l-RelatIF by\n" in text
    assert "  1. training example 2 (target 3, -, 1, 4, ..., prediction 3)\n" in text


def test_examples_are_named_as_the_user_names_them(tables: Store) -> None:
    written(tables, TEST_EXAMPLES, [{"test_index": 4, "label": 0, "predicted_label": 1, "test_id": "p104"}])
    path = "train/cat/of/many/folders/below/each/other/2.jpg"
    ids = [path if index == 2 else str(index) for index in range(8)]
    written(tables, TRAIN_EXAMPLES, [row(index) | {"train_id": ids[index]} for index in range(8)])
    text = own_run_text(run(2), tables)
    assert "Test input 4 'p104' (label 'cat', predicted 'dog') is explained by l-RelatIF by\n" in text
    assert f"  1. training example 2 '...{path[-37:]}' (label 'cat', predicted 'cat')\n" in text
    assert "  2. training example 1 '1' (label 'dog', predicted 'dog')\n" in text


def test_tables_without_a_row_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    written(store, TOP_K, [])
    with pytest.raises(DataError, match="expected explanations in"):
        own_run_text(run(2), store)


def test_what_to_do_next_names_the_folder() -> None:
    assert next_steps("runs/mine").startswith("tables: runs/mine/tables\nnext: relatif check --run runs/mine")
