"""The page of a comparison: its numbers against counting them, its lists against the tables, its pictures by bytes."""

import base64
import io
import json
import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import relatif
from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.report.comparing import compare, open_compared
from relatif.pipeline.report.page.comparison import (
    BINS,
    CASES,
    COMPARISON,
    RANKS,
    comparison_data,
    comparison_page,
    differing_settings,
)
from relatif.pipeline.report.page.document import REPORT
from tests.report.page.test_document import ASSETS, data_in, long_functions
from tests.support import kept_run
from tests.support.written_texts import TEST_TEXTS, TRAIN_TEXTS, write_text_run

CHANGED = range(3, 9)
"""Inputs whose lists the second run has otherwise."""


def changed(out: Path, to: Path) -> Path:
    """A copy of a run whose lists by influence are the opponents for some inputs, and turned round for input 0."""
    shutil.copytree(out, to)
    path = to / "tables/top_k/part-00000.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    opponents = {(row["test_index"], row["rank"]): row for row in rows if row["method"] == "negative_influence"}
    last = max(row["rank"] for row in rows)
    for row in rows:
        if row["method"] == "influence" and row["test_index"] in CHANGED:
            row["train_index"] = opponents[row["test_index"], row["rank"]]["train_index"]
        if row["method"] == "influence" and row["test_index"] == 0:
            row["rank"] = last + 1 - row["rank"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)
    return to


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("kept")
    return [kept_run.unpacked(folder), changed(folder / "run", folder / "other")]


@pytest.fixture(scope="module")
def data(folders: list[Path]) -> dict[str, Any]:
    return told(folders)


def told(folders: list[Path]) -> dict[str, Any]:
    runs = [open_compared(str(folder)) for folder in folders]
    return json.loads(json.dumps(comparison_data(runs, compare(runs)), allow_nan=False))


def lists_of(folder: Path) -> dict[tuple[str, int], list[int]]:
    found: dict[tuple[str, int], dict[int, int]] = defaultdict(dict)
    for row in pq.read_table(folder / "tables/top_k").to_pylist():
        found[row["method"], row["test_index"]][row["rank"]] = row["train_index"]
    return {key: [ranks[rank] for rank in sorted(ranks)] for key, ranks in found.items()}


def test_agreement_is_that_which_counting_finds(data: dict[str, Any], folders: list[Path]) -> None:
    first, second = map(lists_of, folders)
    (pair,) = data["comparison"]["pairs"]
    assert (pair["a"], pair["b"], pair["top"], pair["by"]) == (0, 1, kept_run.RANKS, "test_index")
    for method in pair["methods"]:
        common = [
            len({*first[method["name"], test]} & {*second[method["name"], test]}) for test in range(kept_run.TESTS)
        ]
        assert method["inputs"] == kept_run.TESTS
        assert method["overlap"] == pytest.approx(np.mean(common) / kept_run.RANKS)
        assert method["common"] == [common.count(number) for number in range(kept_run.RANKS + 1)]
        same = [first[method["name"], t][0] == second[method["name"], t][0] for t in range(kept_run.TESTS)]
        assert method["same"] == pytest.approx(np.mean(same))
        assert len(method["ranks"]) == BINS
        assert sum(method["ranks"]) == kept_run.TESTS
    influence = pair["methods"][0]
    assert influence["ranks"][0] >= 1, "a list that is turned round has the rank correlation -1"
    assert influence["ranks"][-1] == kept_run.TESTS - len(CHANGED) - 1


def test_inputs_that_differ_are_shown_with_both_lists(data: dict[str, Any], folders: list[Path]) -> None:
    first, second = map(lists_of, folders)
    (pair,) = data["comparison"]["pairs"]
    cases = pair["cases"]
    assert {case["method"] for case in cases} == {"influence"}, "by the other methods the runs are the same"
    assert [int(case["name"]) for case in cases] == [*CHANGED, 0]
    assert len(cases) <= CASES
    index = data["train"]["index"]
    for case in cases:
        test = int(case["name"])
        assert [data["test"]["index"][place] for place in case["test"]] == [test, test]
        for shown, stored in zip(case["lists"], (first, second), strict=True):
            assert [index[place] for place in shown] == stored["influence", test][:RANKS]


def test_examples_have_labels_answers_names_and_pictures(data: dict[str, Any], folders: list[Path]) -> None:
    run = relatif.open(str(folders[0]))
    assert data["run"]["classes"] == [f"class {number}" for number in range(4)]
    assert data["run"]["media"] == "image"
    sheet = Image.open(io.BytesIO(base64.b64decode(data["sheets"]["images"][0])))
    levels = np.asarray(sheet.convert("L"))
    start = 0
    for side in ("train", "test"):
        rows = {row[f"{side}_index"]: row for row in run.table(f"{side}_examples").to_pylist()}
        (shard,) = run.dataset.shards(side, rows=1000)
        pixels = read_shard(run.data, run.dataset, shard).inputs.numpy()
        columns = data[side]
        for place, number in enumerate(columns["index"]):
            row = rows[number]
            assert columns["label"][place] == row["label"]
            assert columns["id"][place] == f"{side}-{number}"
            assert [each[place] for each in columns["answers"]] == [row["predicted_label"]] * 2
            y, x = divmod(start + place, data["sheets"]["columns"])
            tile = levels[6 * y : 6 * y + 6, 6 * x : 6 * x + 6].astype(int)
            assert np.abs(tile - pixels[number].astype(int)).max() <= 16, "16 greys"
        start += len(columns["index"])


def test_runs_on_other_data_are_shown_each_from_its_own(tmp_path: Path, folders: list[Path]) -> None:
    """Matched by identifiers; the second run's rows stand in another order."""
    texts = [write_text_run(tmp_path / name) for name in "ab"]
    turned = tmp_path / "b/out"
    for table, column in (("top_k", "train_id"), ("train_examples", "train_id")):
        paths = sorted((turned / "tables" / table).iterdir())
        rows = pq.read_table(turned / "tables" / table)
        index = [6 - int(name.removeprefix("train ")) for name in rows[column].to_pylist()]
        renamed = rows.set_column(rows.schema.get_field_index("train_index"), rows.schema.field("train_index"), [index])
        paths[1].unlink()
        pq.write_table(renamed, paths[0])
    record = turned / "run.json"
    content = json.loads(record.read_text())
    content["data"]["fingerprint"] = "other"
    record.write_text(json.dumps(content))
    found = told(texts)
    (pair,) = found["comparison"]["pairs"]
    assert pair["by"] == "test_id"
    assert {method["overlap"] for method in pair["methods"]} == {1.0}
    assert pair["cases"] == []
    (unread,) = found["comparison"]["unread"]
    assert "is not there" in unread
    assert "fingerprint other" in unread
    assert found["run"]["media"] == "none"


def test_texts_are_shown(tmp_path: Path) -> None:
    first = write_text_run(tmp_path / "a")
    second = tmp_path / "a/second"
    shutil.copytree(first, second)
    part = second / "tables/top_k/part-00001.parquet"
    rows = pq.read_table(part).to_pylist()
    last = max(row["rank"] for row in rows)
    schema = pq.read_schema(part)
    pq.write_table(pa.Table.from_pylist([{**row, "rank": last + 1 - row["rank"]} for row in rows], schema), part)
    found = told([first, second])
    assert found["run"]["media"] == "text"
    assert found["sheets"] is None
    assert found["comparison"]["pairs"][0]["cases"]
    assert found["train"]["text"] == [TRAIN_TEXTS[row] for row in found["train"]["index"]]
    assert found["test"]["text"] == [TEST_TEXTS[row] for row in found["test"]["index"]]


def test_settings_in_which_runs_differ_are_named(tmp_path: Path, folders: list[Path]) -> None:
    other = shutil.copytree(folders[0], tmp_path / "other")
    record = json.loads((other / "run.json").read_text())
    del record["sha256"]
    record["configuration"]["curvature"] |= {"damping": 0.5, "precision": "float32"}
    record["configuration"]["cluster"]["workers"] = 7
    (other / "run.json").write_text(json.dumps(record))
    runs = [open_compared(str(folder)) for folder in (folders[0], other)]
    rows = {row[0]: row[1:] for row in differing_settings(runs)}
    assert rows == {
        "curvature.damping": ["0.001", "0.5"],
        "curvature.precision": ["not set", "float32"],
    }


def test_the_page_holds_the_data_and_its_files_are_small(folders: list[Path], data: dict[str, Any]) -> None:
    runs = [open_compared(str(folder)) for folder in folders]
    html = comparison_page(runs, compare(runs))
    assert data_in(html) == data
    own = [name for name in (*COMPARISON.scripts, *COMPARISON.styles) if name not in (*REPORT.scripts, *REPORT.styles)]
    assert sorted(own) == sorted(path.name for path in ASSETS.iterdir() if path.name.startswith("compar"))
    for name in own:
        text = (ASSETS / name).read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 299
        assert long_functions(text) == []
        assert "innerHTML" not in text
