"""docs/tables.md: it describes the tables that there are, and its queries find what counting one by one finds."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import relatif
from relatif.jobs._tables import with_tables
from relatif.schemas.tables import TABLES
from tests.support.kept_run import TESTS, TRAIN, WRONG, unpacked

DOCUMENT = Path(__file__).resolve().parents[2] / "docs/tables.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
BLOCKS = {
    (name, engine): code
    for name, engine, code in re.findall(
        r"^<!-- query: (\w+) (\w+) -->\n```\w+\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL
    )
}
SOURCES = ("north", "south", "web")
Rows = list[dict[str, Any]]


def test_every_table_is_described_as_its_schema_says() -> None:
    told = "run `python -m relatif.jobs._tables docs/tables.md`"
    assert with_tables(TEXT) == TEXT, told
    assert set(re.findall(r"^\| \[`(\w+)`\]", TEXT, re.MULTILINE)) == set(TABLES)


def test_what_is_described_has_every_column_with_its_type_and_meaning() -> None:
    """The file against the schemas, without the code that writes it."""
    for name, spec in TABLES.items():
        (section,) = re.findall(rf"^### `{name}`\n(.*?)(?=^###|^<!-- end)", TEXT, re.MULTILINE | re.DOTALL)
        rows = [re.split(r"(?<!\\) \| ", line[2:-2]) for line in section.splitlines() if line.startswith("| `")]
        assert [row[0].strip("`") for row in rows] == spec.schema.names
        for (_, kind, *_, meaning), field in zip(rows, spec.schema, strict=True):
            assert ("or null" in kind) == field.nullable
            assert ("64" in kind) == any(word in str(field.type) for word in ("int64", "double"))
            plain = meaning.replace("`", "").replace("\\|", "|")
            assert plain == field.metadata[b"meaning"].decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, and a user's own table of its training examples."""
    made = tmp_path_factory.mktemp("kept")
    unpacked(made)
    cases = [{"case_id": f"train-{row}", "source": source_of(row)} for row in reversed(range(TRAIN))]
    (made / "mine").mkdir()
    pq.write_table(pa.Table.from_pylist(cases), made / "mine/cases.parquet")
    return made


@pytest.fixture(scope="module")
def tables(folder: Path) -> dict[str, Rows]:
    run = relatif.open(str(folder / "run"))
    return {name: run.table(name).to_pylist() for name in ("train_examples", "test_examples", "top_k", "scores")}


def source_of(train: int) -> str:
    return SOURCES[train * train % 7 % 3]


def found(name: str, engine: str, folder: Path) -> Rows:
    code = BLOCKS[name, engine].replace("runs/mnist", (folder / "run").as_posix())
    code = code.replace("mine/", f"{(folder / 'mine').as_posix()}/")
    if engine == "duckdb":
        with duckdb.connect() as connection:
            return connection.sql(code).to_arrow_table().to_pylist()
    names: dict[str, Any] = {}
    exec(code, names)
    return names[name].to_dicts() if engine == "polars" else names[name].to_dict("records")


def is_wrong(test: dict[str, Any]) -> bool:
    return test["label"] != test["predicted_label"]


def errors(tables: dict[str, Rows]) -> Rows:
    wrong = {row["test_index"] for row in tables["test_examples"] if is_wrong(row)}
    assert wrong
    counts = Counter(
        row["train_index"]
        for row in tables["top_k"]
        if row["method"] == "l_relatif" and row["rank"] <= 5 and row["test_index"] in wrong
    )
    order = sorted(counts, key=lambda train: (-counts[train], train))[:10]
    columns = ("train_index", "label", "predicted_label", "loss")
    train = {row["train_index"]: row for row in tables["train_examples"]}
    return [{name: train[i][name] for name in columns} | {"errors": counts[i]} for i in order]


def differences(tables: dict[str, Rows]) -> Rows:
    first: dict[tuple[str, int], set[int]] = defaultdict(set)
    for row in tables["top_k"]:
        if row["rank"] <= 5:
            first[row["method"], row["test_index"]].add(row["train_index"])
    columns = ("test_index", "label", "predicted_label", "loss")
    rows = [
        {name: row[name] for name in columns}
        | {"in_common": len(first["influence", row["test_index"]] & first["l_relatif", row["test_index"]])}
        for row in tables["test_examples"]
    ]
    assert len({row["in_common"] for row in rows}) > 1
    return sorted(rows, key=lambda row: (row["in_common"], -row["loss"], row["test_index"]))[:10]


def labels(tables: dict[str, Rows]) -> Rows:
    rows = [
        {
            "train_index": row["train_index"],
            "train_id": f"train-{row['train_index']}",
            "label": row["label"],
            "suggested": row["predicted_label"],
            "probability": row["probability"],
            "self_influence": row["self_influence"],
        }
        for row in tables["train_examples"]
        if is_wrong(row)
    ]
    return sorted(rows, key=lambda row: -row["self_influence"])[:10]


def groups(tables: dict[str, Rows]) -> Rows:
    classes = {row["test_index"]: row["explained_label"] for row in tables["test_examples"]}
    inputs, sums = Counter(classes.values()), dict.fromkeys(product(sorted(set(classes.values())), SOURCES), 0.0)
    for row in tables["scores"]:
        for train, influence in enumerate(row["influence"], start=row["train_start"]):
            sums[classes[row["test_index"]], source_of(train)] += influence / TRAIN
    rows = [{"explained_label": c, "source": s, "mean_effect": value / inputs[c]} for (c, s), value in sums.items()]
    return sorted(rows, key=lambda row: (row["explained_label"], -row["mean_effect"]))


def shares(tables: dict[str, Rows]) -> Rows:
    classes = {row["test_index"]: row["explained_label"] for row in tables["test_examples"]}
    listed = [row for row in tables["top_k"] if row["method"] == "l_relatif" and row["rank"] <= 5]
    places = Counter((classes[row["test_index"]], source_of(row["train_index"])) for row in listed)
    every, sources = Counter(c for c, _ in places.elements()), Counter(map(source_of, range(TRAIN)))
    rows = [
        {"explained_label": c, "source": s, "share": count / every[c], "expected": sources[s] / TRAIN}
        for (c, s), count in places.items()
    ]
    return sorted(rows, key=lambda row: (row["explained_label"], -row["share"], row["source"]))


def uses(tables: dict[str, Rows]) -> Rows:
    wrong = {row["test_index"]: is_wrong(row) for row in tables["test_examples"]}
    ranks: dict[str, list[tuple[int, bool]]] = defaultdict(list)
    for row in tables["top_k"]:
        if row["train_index"] == 17:
            ranks[row["method"]].append((row["rank"], wrong[row["test_index"]]))
    assert len(ranks) > 1
    return [
        {
            "method": method,
            "inputs": len(places),
            "errors": sum(error for _, error in places),
            "best_rank": min(rank for rank, _ in places),
        }
        for method, places in sorted(ranks.items())
    ]


def dense(tables: dict[str, Rows]) -> Rows:
    squares = {row["train_index"]: row["self_influence"] for row in tables["train_examples"]}
    rows = [
        {"train_index": train, "influence": influence, "l_relatif": influence / squares[train] ** 0.5}
        for row in tables["scores"]
        if row["test_index"] == 3
        for train, influence in enumerate(row["influence"], start=row["train_start"])
    ]
    assert len(rows) == TRAIN
    return sorted(rows, key=lambda row: -row["l_relatif"])


COUNTED: dict[str, Callable[[dict[str, Rows]], Rows]] = {
    "errors": errors,
    "differences": differences,
    "labels": labels,
    "groups": groups,
    "shares": shares,
    "uses": uses,
    "dense": dense,
}


@pytest.mark.parametrize(("name", "engine"), BLOCKS, ids=[" by ".join(key) for key in BLOCKS])
def test_a_query_finds_what_counting_finds(name: str, engine: str, folder: Path, tables: dict[str, Rows]) -> None:
    rows, expected = found(name, engine, folder), COUNTED[name](tables)
    assert len(rows) == len(expected) > 0
    for row, wanted in zip(rows, expected, strict=True):
        assert row.keys() == wanted.keys()
        # Sums in another order differ by rounding alone.
        assert {
            key: value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-9)
            for key, value in wanted.items()
        } == row


def test_every_question_is_asked_and_in_all_three() -> None:
    assert {name for name, _ in BLOCKS} == set(COUNTED)
    in_all = [name for name in COUNTED if all((name, engine) in BLOCKS for engine in ("duckdb", "polars", "pandas"))]
    assert in_all == ["errors", "differences", "labels", "groups", "uses"]
    assert TEXT.count("```sql") + TEXT.count("```python") == len(BLOCKS), "every block of code is tested"


def test_the_labels_that_look_wrong_are_those_that_were_made_wrong(folder: Path) -> None:
    assert sum(row["train_index"] < WRONG for row in found("labels", "duckdb", folder)) >= 5


def test_the_first_of_the_dense_order_are_the_explanation(folder: Path, tables: dict[str, Rows]) -> None:
    explained = [
        (row["rank"], row["train_index"])
        for row in tables["top_k"]
        if row["method"] == "l_relatif" and row["test_index"] == 3
    ]
    rows = found("dense", "duckdb", folder)[: len(explained)]
    assert [train for _, train in sorted(explained)] == [row["train_index"] for row in rows]


def test_groups_add_up_to_the_whole(folder: Path, tables: dict[str, Rows]) -> None:
    """Summed over sources and inputs, the effects are the mean of all influences."""
    matrix = np.zeros((TESTS, TRAIN))
    for row in tables["scores"]:
        matrix[row["test_index"], row["train_start"] :][: len(row["influence"])] = row["influence"]
    inputs = Counter(row["explained_label"] for row in tables["test_examples"])
    rows = found("groups", "polars", folder)
    total = sum(row["mean_effect"] * inputs[row["explained_label"]] for row in rows)
    assert total == pytest.approx(matrix.sum() / TRAIN, rel=1e-6)
