"""One test input's explanation by the texts of the data: from finished tables and the few rows that are needed."""

from collections.abc import Sequence
from typing import Any

from relatif.pipeline.datasets.description import Split
from relatif.pipeline.datasets.texts import texts_of_rows
from relatif.pipeline.report.paper import NamedExample
from relatif.pipeline.report.table3_text import Explanation
from relatif.pipeline.runs.finished_tables import rows_by_index
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES


def explain(run: Run, test_index: int, *, methods: Sequence[str], k: int) -> Explanation:
    """Return the k best training examples (fewer where top_k keeps fewer) of a test input by every method, best first.

    Raises MissingStageError where there are no tables, DataError for a test input that they don't hold and
    for data without texts.
    """
    tables = run.store.child(run_directory.TABLES)
    top = _top(tables, test_index, methods, k)
    tests = {row["test_index"]: row for row in rows_by_index(tables, TEST_EXAMPLES.name, "test_index", [test_index])}
    if not tests or not top:
        raise DataError(
            f"expected test_index {test_index} in the tables of {run.store.describe()}, found it not to be; "
            f"name one below {run.test_rows}"
        )
    chosen = sorted({row["train_index"] for row in top})
    rows = {row["train_index"]: row for row in rows_by_index(tables, TRAIN_EXAMPLES.name, "train_index", chosen)}
    trains = _named(run, "train", rows)
    test = tests[test_index]
    return Explanation(
        test=_named(run, "test", tests)[test_index],
        explained_label=run.dataset.class_name(test["explained_label"]),
        probability=test["probability"],
        examples={method: [trains[row["train_index"]] for row in top if row["method"] == method] for method in methods},
    )


def _top(tables: Store, test_index: int, methods: Sequence[str], k: int) -> list[dict[str, Any]]:
    rows = rows_by_index(tables, TOP_K.name, "test_index", [test_index])
    kept = [row for row in rows if row["method"] in methods and row["rank"] <= k]
    return sorted(kept, key=lambda row: (row["method"], row["rank"]))


def _named(run: Run, split: Split, rows: dict[int, dict[str, Any]]) -> dict[int, NamedExample]:
    texts, name = texts_of_rows(run.data, run.dataset, split, rows), run.dataset.class_name
    return {
        index: NamedExample(texts[index], name(row["label"]), name(row["predicted_label"]))
        for index, row in rows.items()
    }
