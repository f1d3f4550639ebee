"""What an export says of each row, against looking it up one by one."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import relatif
from relatif.pipeline.report import exporting
from relatif.pipeline.report.exporting import Chosen, Exported, exported, plain
from relatif.pipeline.runs.run import Run
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError
from relatif.schemas.exports import EXPLANATIONS
from relatif.schemas.tables import LEAVE_ONE_OUT, TOP_K
from tests.support.written_texts import (
    CLASSES,
    TEST_TEXTS,
    TRAIN,
    TRAIN_TEXTS,
    USED,
    explained_rows,
    influences,
    top_k_rows,
    train_rows,
    write_text_run,
)

ALL = Chosen()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return relatif.open(str(write_text_run(tmp_path_factory.mktemp("texts"))))


def rows(found: Exported) -> list[dict[str, Any]]:
    table = pa.Table.from_batches(list(found.batches), found.schema)
    table.validate(full=True)
    return table.to_pylist()


def named(label: int | None) -> str | None:
    return None if label is None else CLASSES[label]


def expected_explanation(row: dict[str, Any]) -> dict[str, Any]:
    train, test = train_rows()[row["train_index"]], explained_rows()[row["test_index"]]
    found = {
        "method": row["method"],
        "rank": row["rank"],
        "score": np.float32(row["score"]),
        "effect": influences()[row["test_index"], row["train_index"]] / TRAIN,
        "test_index": row["test_index"],
        "test_id": test["test_id"],
        "explained_label": test["explained_label"],
        "explained_label_name": named(test["explained_label"]),
        "train_index": row["train_index"],
        "train_id": train["train_id"],
        "train_self_influence": train["self_influence"],
        "test_text": TEST_TEXTS[row["test_index"]],
        "train_text": TRAIN_TEXTS[row["train_index"]],
    }
    for side, example in (("train", train), ("test", test)):
        for name in ("label", "predicted_label"):
            found |= {f"{side}_{name}": example[name], f"{side}_{name}_name": named(example[name])}
        found |= {f"{side}_{name}": np.float32(example[name]) for name in ("probability", "loss")}
    return found


@pytest.mark.parametrize("batch_rows", [1, 7, 8_192])
def test_explanations_say_what_both_tables_and_texts_say(
    run: Run, batch_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "TEXT_BATCH_ROWS", batch_rows)
    monkeypatch.setattr(exporting, "TEXT_SHARD_ROWS", 3)
    found = rows(exported(run, EXPLANATIONS.name, ALL, with_text=True))
    assert len(found) == len(top_k_rows())
    for row, stored in zip(found, top_k_rows(), strict=True):
        expected = expected_explanation(stored)
        effect = row.pop("effect")
        if stored["method"] == "nearest_neighbour":
            assert effect is None
        else:
            assert effect == pytest.approx(expected["effect"], rel=1e-6)
        assert row == {name: expected[name] for name in row}
        assert row.keys() == expected.keys() - {"effect"}


def test_the_schema_is_the_one_that_is_described(run: Run) -> None:
    found = exported(run, EXPLANATIONS.name, ALL)
    assert found.schema.equals(EXPLANATIONS.schema, check_metadata=True)
    assert all(batch.schema.equals(found.schema) for batch in found.batches)


@pytest.mark.parametrize(
    "chosen", [Chosen(("l_relatif",)), Chosen(ranks=2), Chosen(("influence", "negative_influence"), 1)]
)
@pytest.mark.parametrize("table", [EXPLANATIONS.name, TOP_K.name])
def test_methods_and_ranks_are_chosen(run: Run, table: str, chosen: Chosen) -> None:
    keys = ("method", "test_index", "rank", "train_index")
    expected = [
        tuple(row[key] for key in keys)
        for row in top_k_rows()
        if row["method"] in (chosen.methods or USED) and row["rank"] <= (chosen.ranks or 9)
    ]
    assert [tuple(row[key] for key in keys) for row in rows(exported(run, table, chosen))] == expected


def test_a_table_gets_names_of_classes_and_identifiers_that_it_lacks(run: Run) -> None:
    for row in rows(exported(run, "train_examples", ALL, with_text=True)):
        assert row["label_name"] == CLASSES[row["label"]]
        assert row["predicted_label_name"] == CLASSES[row["predicted_label"]]
        assert row["train_text"] == TRAIN_TEXTS[row["train_index"]]
    assert [row["label_name"] for row in rows(exported(run, "test_examples", ALL))] == ["red", "green", None]
    assert [(r["test_id"], r["train_id"]) for r in rows(exported(run, LEAVE_ONE_OUT.name, ALL))] == [
        ("test 1", "train 4"),
        ("test 0", "train 5"),
    ]
    assert [row["test_id"] for row in rows(exported(run, "top_k", ALL))] == [
        f"test {row['test_index']}" for row in top_k_rows()
    ]


def test_a_plain_table_is_the_run_folders_own(run: Run) -> None:
    found = plain(run.store, "top_k", ALL)
    assert found.schema.names == TOP_K.schema.names
    assert pa.Table.from_batches(list(found.batches)) == run.table("top_k")


def test_a_run_without_identifiers_has_none(tmp_path: Path) -> None:
    found = rows(exported(relatif.open(str(write_text_run(tmp_path, ids=False))), EXPLANATIONS.name, ALL))
    assert {(row["test_id"], row["train_id"]) for row in found} == {(None, None)}


@pytest.mark.parametrize(
    ("table", "chosen", "error", "told"),
    [
        ("topk", ALL, ConfigurationError, r"expected the name of a table, .*, explanations, found 'topk'"),
        ("overlap", ALL, MissingStageError, r"expected Parquet files in .*overlap, found none"),
        ("top_k", Chosen(("identity",)), ConfigurationError, r"--method among influence, .*, found identity"),
        ("top_k", Chosen(ranks=5), ConfigurationError, r"--rank between 1 and 4, .* found 5"),
        ("top_k", Chosen(ranks=0), ConfigurationError, r"--rank between 1 and 4, .* found 0"),
        ("train_examples", Chosen(ranks=1), ConfigurationError, r"--rank for a table with a column rank"),
        ("train_examples", Chosen(("influence",)), ConfigurationError, r"--method for a table with a column method"),
    ],
)
def test_what_cannot_be_exported_is_told_before_any_row(
    run: Run, table: str, chosen: Chosen, error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        exported(run, table, chosen)


def test_texts_are_asked_for_only_where_there_are_some(run: Run, tmp_path: Path) -> None:
    out = write_text_run(tmp_path)
    opened = relatif.open(str(out))
    description = opened.dataset.description
    inputs = description.input.model_copy(update={"text_column": None})
    object.__setattr__(opened.dataset, "description", description.model_copy(update={"input": inputs}))
    with pytest.raises(DataError, match="expected a column of texts in data set made-up texts"):
        exported(opened, EXPLANATIONS.name, ALL, with_text=True)


def test_tables_of_two_runs_are_no_export(tmp_path: Path) -> None:
    out = write_text_run(tmp_path)
    (out / "tables/train_examples/part-00001.parquet").unlink()
    with pytest.raises(DataError, match=r"expected each of \d examples .* once in .*train_examples, found \d row"):
        exported(relatif.open(str(out)), EXPLANATIONS.name, ALL)
