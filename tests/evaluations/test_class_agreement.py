"""Identical class and subclass tests on hand-written tables, against loops over rows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from relatif.pipeline.evaluations.class_agreement import class_agreement
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError, MissingStageError
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import CLASS_AGREEMENT, TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES
from tests.support.table_rows import filled, number_columns

TESTS, TRAINING, RANKS, SUBCLASSES = 37, 60, 3, 6
RANDOM = np.random.default_rng(0)
TRAIN_SUBCLASS, TEST_SUBCLASS = RANDOM.integers(0, SUBCLASSES, TRAINING), RANDOM.integers(0, SUBCLASSES, TESTS)
PREDICTED = np.where(RANDOM.random(TESTS) < 0.7, TEST_SUBCLASS // 2, RANDOM.integers(0, 3, TESTS))


def explanations() -> pa.Table:
    rows = [
        (method, test, rank, int(train))
        for method in METHODS
        for test in range(TESTS)
        for rank, train in enumerate(RANDOM.choice(TRAINING, RANKS, replace=False), start=1)
    ]
    columns = dict(zip(("method", "test_index", "rank", "train_index"), zip(*rows, strict=True), strict=True))
    return pa.table(
        {**columns, "score": np.zeros(len(rows), np.float32), "train_id": pa.nulls(len(rows), pa.string())}
    ).cast(TOP_K.schema)


def examples(index: str, **classes: np.ndarray) -> pa.Table:
    spec = TRAIN_EXAMPLES if index == "train_index" else TEST_EXAMPLES
    rows = len(classes["label"])
    columns = {name: np.zeros(rows) for name in number_columns(spec)}
    return filled(spec, {**columns, index: np.arange(rows), **classes})


TABLES = {
    "top_k": explanations(),
    "train_examples": examples("train_index", label=TRAIN_SUBCLASS // 2),
    # Explained are other classes than the predicted ones, so that the two can't be taken for each other.
    "test_examples": examples(
        "test_index", label=TEST_SUBCLASS // 2, predicted_label=PREDICTED, explained_label=(PREDICTED + 1) % 3
    ),
}


def write(folder: Path, tables: dict[str, pa.Table], *, files: int = 1, seed: int | None = None) -> Path:
    for name, table in tables.items():
        (folder / name).mkdir(parents=True)
        order = np.arange(len(table)) if seed is None else np.random.default_rng(seed).permutation(len(table))
        for number, rows in enumerate(np.array_split(order, files)):
            pq.write_table(table.take(rows), folder / name / f"part-{number:05d}.parquet", row_group_size=20)
    return folder


def agreement(folder: Path, *, subclasses: bool = True) -> pa.Table:
    pair = (torch.from_numpy(TRAIN_SUBCLASS), torch.from_numpy(TEST_SUBCLASS)) if subclasses else None
    return class_agreement(open_store(folder), pair)


def expected() -> list[dict[str, object]]:
    found = []
    explained = TABLES["test_examples"]["explained_label"].to_pylist()
    for test in ("identical_class", "identical_subclass"):
        for method in METHODS:
            hits = []
            for row in TABLES["top_k"].to_pylist():
                if (row["method"], row["rank"]) != (method, 1):
                    continue
                train, input_ = row["train_index"], row["test_index"]
                if test == "identical_class":
                    hits.append(TRAIN_SUBCLASS[train] // 2 == explained[input_])
                elif PREDICTED[input_] == TEST_SUBCLASS[input_] // 2:
                    hits.append(TRAIN_SUBCLASS[train] == TEST_SUBCLASS[input_])
            share = sum(hits) / len(hits)
            error = (share * (1 - share) / len(hits)) ** 0.5
            found.append(
                {"method": method, "test": test, "test_count": len(hits), "share": share, "standard_error": error}
            )
    return found


def test_shares_are_those_of_a_loop_over_rows(tmp_path: Path) -> None:
    found = agreement(write(tmp_path, TABLES))

    assert found.schema.equals(CLASS_AGREEMENT.schema)
    assert found.to_pylist() == expected()
    assert len({row["share"] for row in found.to_pylist()}) > 4
    assert {row["test_count"] for row in found.to_pylist()} == {TESTS, int((PREDICTED == TEST_SUBCLASS // 2).sum())}


def test_without_merged_classes_there_is_no_subclass_test(tmp_path: Path) -> None:
    found = agreement(write(tmp_path, TABLES), subclasses=False)
    assert found.to_pylist() == expected()[: len(METHODS)]


@pytest.mark.parametrize("files", [1, 5])
def test_files_and_order_of_rows_change_nothing(tmp_path: Path, files: int) -> None:
    whole = agreement(write(tmp_path / "whole", TABLES))
    assert agreement(write(tmp_path / "cut", TABLES, files=files, seed=files)).equals(whole)


def keep(name: str, condition: str) -> dict[str, pa.Table]:
    rows = [row for row in TABLES[name].to_pylist() if eval(condition, row)]
    return {**TABLES, name: pa.Table.from_pylist(rows, schema=TABLES[name].schema)}


def twice(name: str) -> dict[str, pa.Table]:
    return {**TABLES, name: pa.concat_tables([TABLES[name], TABLES[name].slice(0, 1)])}


BROKEN = {
    "explanation missing": (
        keep("top_k", "(method, test_index, rank) != ('l_relatif', 8, 1)"),
        "found none for l_relatif of test_index 8;",
    ),
    "explanation twice": (twice("top_k"), "found 1 row.s. too many"),
    "training row missing": (keep("train_examples", "train_index != 5"), "train_index from 0 once .* up to 59"),
    "last training row missing": (keep("train_examples", "train_index < 40"), "in train_examples too, found"),
    "training row twice": (twice("train_examples"), "found 61 rows for 60 of them"),
    "last test row missing": (keep("test_examples", "test_index < 20"), "in test_examples too, found 36"),
    "no test row": (keep("test_examples", "False"), "expected rows in .*test_examples, found none"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_tables_that_do_not_fit_together_are_refused(tmp_path: Path, case: str) -> None:
    tables, message = BROKEN[case]
    with pytest.raises(DataError, match=message):
        agreement(write(tmp_path, tables))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match=r"Parquet files in .*top_k"):
        agreement(write(tmp_path, {name: table for name, table in TABLES.items() if name != "top_k"}))


def test_a_subclass_test_needs_an_input_that_is_classified_right(tmp_path: Path) -> None:
    wrong = examples(
        "test_index", label=TEST_SUBCLASS // 2, predicted_label=TEST_SUBCLASS // 2 + 1, explained_label=PREDICTED
    )
    folder = write(tmp_path, {**TABLES, "test_examples": wrong})
    assert len(agreement(folder, subclasses=False)) == len(METHODS)
    with pytest.raises(DataError, match=r"at least one test input"):
        agreement(folder)
