"""What the README says is so: its queries run, its settings, tables and folders are the project's."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.jobs._settings import settings_table
from relatif.pipeline.runs.run import Run
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from relatif.schemas.columns import TableSpec
from relatif.schemas.config import DataConfig, RunConfig
from relatif.schemas.errors import ConfigurationError, MissingStageError
from relatif.schemas.tables import TABLES, TOP_K, TRAIN_EXAMPLES
from tests.support.table_rows import number_columns

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUN_IN_README = "runs/mnist"

# Training example i explains EXPLAINED[i] test inputs best by plain influence; 2 and 5 tie.
EXPLAINED = {4: 3, 2: 2, 5: 2, 0: 1}
LOSSES = [0.125, 0.25, 2.5, 0.5, 3.75, 1.0]
# Examples by l-RelatIF for test input 0, best first: more than the query asks for.
RELATIVE_ORDER = [3, 0, 5, 1, 4, 2]


def _block(marker: str) -> str:
    """The fenced block that follows ``<!-- marker -->``."""
    found = re.findall(rf"^<!-- {re.escape(marker)} -->\n```\w+\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"expected one block marked {marker!r}, found {len(found)}"
    assert RUN_IN_README in found[0]
    return found[0]


def _write(run: Path, spec: TableSpec, rows: list[dict[str, Any]], *, files: int) -> None:
    folder = run / run_directory.table(spec.name)
    folder.mkdir(parents=True)
    size = -(-len(rows) // files)
    for part in range(files):
        table = pa.Table.from_pylist(rows[part * size : (part + 1) * size], schema=spec.with_metadata({}))
        pq.write_table(table, run / run_directory.table_part(spec.name, part))


def _top_k_rows() -> list[dict[str, Any]]:
    best = [train for train, inputs in EXPLAINED.items() for _ in range(inputs)]
    rows = [("influence", test, 1, train, 1.0) for test, train in enumerate(best)]
    # Other ranks, methods and inputs, which the queries have to leave out.
    rows += [("influence", test, 2, 1, 0.5) for test in range(len(best))]
    rows += [("l_relatif", 0, rank, train, 1 / rank) for rank, train in enumerate(RELATIVE_ORDER, start=1)]
    rows += [("l_relatif", 1, rank, train, 2 / rank) for rank, train in enumerate(RELATIVE_ORDER[::-1], start=1)]
    return [dict(zip(TOP_K.schema.names, (*row, str(100 + row[3])), strict=True)) for row in rows]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with tables small enough to know every answer, each in two files."""
    run = tmp_path_factory.mktemp("run")
    zeros = dict.fromkeys(TRAIN_EXAMPLES.schema.names) | dict.fromkeys(number_columns(TRAIN_EXAMPLES), 0)
    train = [
        {**zeros, "train_index": i, "label": i + 1, "predicted_label": i + 2, "loss": loss, "probability": 0.5**i}
        for i, loss in enumerate(LOSSES)
    ]
    _write(run, TRAIN_EXAMPLES, train, files=2)
    _write(run, TOP_K, _top_k_rows(), files=2)
    return run


def test_duckdb_query(run: Path) -> None:
    with duckdb.connect() as connection:
        rows = connection.execute(_block("query: duckdb").replace(RUN_IN_README, run.as_posix())).fetchall()
    expected = [(4, 5, 6, 3.75, 3), (2, 3, 4, 2.5, 2), (5, 6, 7, 1.0, 2), (0, 1, 2, 0.125, 1)]
    assert rows == expected


def test_a_query_joins_identifiers_with_the_users_own_parquet(run: Path, tmp_path: Path) -> None:
    cases = [{"case_id": 100 + train, "name": f"case {train}"} for train in range(len(LOSSES))]
    pq.write_table(pa.Table.from_pylist(cases), tmp_path / "cases.parquet")
    query = _block("query: ids").replace(RUN_IN_README, run.as_posix()).replace("mine/", f"{tmp_path.as_posix()}/")
    with duckdb.connect() as connection:
        rows = connection.execute(query).fetchall()
    best = enumerate(RELATIVE_ORDER[:5], start=1)
    assert rows == [(rank, np.float32(1 / rank), 100 + train, f"case {train}") for rank, train in best]


def test_polars_query(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    exec(_block("query: polars").replace(RUN_IN_README, run.as_posix()), names)
    explanation = names["explanation"]
    best = RELATIVE_ORDER[:5]
    assert explanation["train_index"].to_list() == best
    assert explanation["rank"].to_list() == [1, 2, 3, 4, 5]
    assert explanation["label"].to_list() == [i + 1 for i in best]
    assert explanation["probability"].to_list() == [0.5**i for i in best]
    assert "train_index" in capsys.readouterr().out


def test_an_opened_run_gives_its_tables(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``open`` itself is tried in tests/runs/test_opening.py."""
    data: Any = SimpleNamespace(class_names=("0", "1"), rows={"train": 6}.get)
    config = RunConfig(task="mnist_logistic", data=DataConfig(source="data"))
    opened = Run(config, open_store(run), open_store(run), data)
    monkeypatch.setattr(
        "relatif.pipeline.explaining.finished_run.open_finished_run", {RUN_IN_README: opened}.__getitem__
    )
    names: dict[str, Any] = {}
    exec(_block("query: open"), names)
    assert names["top_k"] == pa.Table.from_pylist(_top_k_rows(), schema=TOP_K.schema)
    assert [row["train_index"] for row in names["first"]] == RELATIVE_ORDER[:5]
    assert opened.table("top_k", ["rank"]).column_names == ["rank"]
    with pytest.raises(ConfigurationError, match=r"expected the name of a table, train_examples, .*, found 'topk'"):
        opened.table("topk")
    with pytest.raises(MissingStageError, match=r"expected Parquet files in .*, found none; run the stage"):
        opened.table("overlap")


def test_settings_table_is_the_configuration() -> None:
    """``python -m relatif.jobs._settings`` prints the table that has to stand in the README."""
    (found,) = re.findall(r"^\| setting \|.*?\n(?=\n)", _section("Settings"), re.MULTILINE | re.DOTALL)
    assert found == settings_table(), "put the output of `python -m relatif.jobs._settings` in the README's place"


def test_every_table_is_named() -> None:
    """docs/tables.md describes them, see tests/docs/test_tables.py."""
    rows = re.findall(r"^\| (`[a-z_`, ]+`) \|", _section("Results on disk"), re.MULTILINE)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row)) == sorted(TABLES)


def test_layout_names_every_package() -> None:
    named = set(re.findall(r"^ *([\w/]+)/ ", _section("Layout"), re.MULTILINE))
    packages = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")}
    assert packages | {"schemas", "jobs", "relatif", "tests", "data/mnist"} == named


def _section(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found is not None, f"no section {title!r}"
    return found[1]
