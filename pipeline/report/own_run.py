"""What a finished run found, as plain text: how concentrated explanations are, the examples that explain most, and one.

Axes: M test inputs.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from math import isnan
from typing import Any

from relatif.pipeline.report.tables import aligned
from relatif.pipeline.runs.finished_tables import rows_by_index, table_methods
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages.score import scored_text
from relatif.pipeline.storage.parquet import iter_batches
from relatif.pipeline.storage.store import Store
from relatif.schemas.methods import METHODS, explaining
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

MOST, FIRST = 3, 3
"""Examples that are named for each method, and those of the one explanation that is shown."""

ID_LETTERS = 40
"""Letters of an identifier that are shown."""

SPECIFIC = ("l_relatif", "theta_relatif")
"""Methods whose examples are specific to the input: the first that was scored is shown."""

First = Mapping[str, Sequence[tuple[int, int]]]
"""By method: test index and training index of each explanation's first example."""


def own_run_text(run: Run, tables: Store) -> str:
    """Return what a run's tables say, at most 100 columns wide; DataError for tables without a row."""
    first = _first_examples(tables)
    rows = [["method", "different", "explaining most (train_index x test inputs)"]]
    for name, pairs in first.items():
        rows.append([METHODS[name].title, f"{len({train for _, train in pairs}):,}", _most(pairs)])
    tests = len(next(iter(first.values())))
    return "\n\n".join(
        [
            f"The first example of {tests:,} explanations among {run.scored_rows:,} {scored_text(run)}",
            aligned(rows, "<><"),
            *_one(run, tables, first),
        ]
    )


def next_steps(out: str) -> str:
    """Return what to do with a finished run."""
    return (
        f"tables: {out}/tables\n"
        f"next: relatif check --run {out} verifies it;\n"
        f"      relatif run with another test set or setting of score takes that into it in place;\n"
        f"      relatif evaluate with the same options judges the explanations"
    )


def _first_examples(tables: Store) -> dict[str, list[tuple[int, int]]]:
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in explaining(table_methods(tables))}
    for batch in iter_batches(tables, TOP_K.name, ["method", "test_index", "rank", "train_index"]):
        for method, test, rank, train in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if rank == 1 and method in found:
                found[method].append((test, train))
    return found


def _most(pairs: Sequence[tuple[int, int]]) -> str:
    counted = Counter(train for _, train in pairs)
    most = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MOST]
    return ", ".join(f"{train} x {count}" for train, count in most)


def _one(run: Run, tables: Store, first: First) -> Iterator[str]:
    """Yield the explanation of the first test input by the method that is best for it, where that was scored."""
    method = next((name for name in (*SPECIFIC, *first) if name in first), None)
    if method is None or not first[method]:
        return
    test = min(index for index, _ in first[method])
    (described,) = rows_by_index(tables, TEST_EXAMPLES.name, "test_index", [test])
    ranked = sorted(
        (row["rank"], row["train_index"])
        for row in rows_by_index(tables, TOP_K.name, "test_index", [test])
        if row["method"] == method
    )[:FIRST]
    examples = {
        row["train_index"]: row
        for row in rows_by_index(tables, TRAIN_EXAMPLES.name, "train_index", [train for _, train in ranked])
    }
    lines = [
        f"  {rank}. training example {train}{_id(examples[train].get('train_id'))}{_labels(run, examples[train])}"
        for rank, train in ranked
    ]
    test_id, title = _id(described.get("test_id")), METHODS[method].title
    yield "\n".join([f"Test input {test}{test_id}{_labels(run, described)} is explained by {title} by", *lines])


def _id(identifier: str | None) -> str:
    """Return the user's own identifier as it follows a row's number; of a long one the end, where paths differ."""
    if identifier is None:
        return ""
    return f" {identifier!r}" if len(identifier) <= ID_LETTERS else f" {'...' + identifier[3 - ID_LETTERS :]!r}"


def _labels(run: Run, row: Mapping[str, Any]) -> str:
    """Return what the tables say of an example's target and prediction, in brackets: classes, or the first numbers."""
    if run.task.likelihood.classes is None:
        names = [f"{key} {_numbers(row[key])}" for key in ("target", "prediction") if row.get(key)]
    else:
        names = [f"{what} {run.dataset.class_name(row[key])!r}" for what, key in _KINDS if row.get(key) is not None]
    return f" ({', '.join(names)})" if names else ""


def _numbers(values: Sequence[float | None]) -> str:
    """Return the first numbers, a dash for one that is left out, and whether there are more."""
    shown = ["-" if value is None or isnan(value) else f"{value:.4g}" for value in values]
    if set(shown) <= {"-"}:
        return "none"
    return f"{', '.join(shown[:FEW])}{', ...' if len(shown) > FEW else ''}"


_KINDS = (("label", "label"), ("predicted", "predicted_label"))

FEW = 4
"""Numbers of a target that are shown."""
