"""docs/analysis.ipynb runs over a finished run, and is stored with small outputs that tell nothing of a machine."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import relatif
from tests.support import kept_run
from tests.support.runs import ROOT

NOTEBOOK = ROOT / "docs/analysis.ipynb"
LARGEST_PICTURES = 300_000


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def outputs(notebook: Any, kind: str) -> list[str]:
    """The outputs of one kind, in order."""
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return [each.data[kind] for cell in cells for each in cell.outputs if kind in each.get("data", {})]


def printed(notebook: Any) -> str:
    cells = (cell for cell in notebook.cells if cell.cell_type == "code")
    return "".join(each.text for cell in cells for each in cell.outputs if each.output_type == "stream")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept_run.unpacked(tmp_path_factory.mktemp("kept"))


@pytest.fixture(scope="module")
def executed(out: Path) -> Any:
    """The notebook after all its cells were run on a small run; an error in a cell is raised."""
    notebook = read()
    place = {"metadata": {"path": ROOT / "docs"}}
    client = NotebookClient(notebook, timeout=60, kernel_name="python3", resources=place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RELATIF_RUN", str(out))
        patch.setenv("PYTHONPATH", str(ROOT))  # where the kept run's task is found
        client.execute()
    return notebook


def test_it_says_of_another_run_what_its_tables_say(executed: Any, out: Path) -> None:
    run = relatif.open(str(out))
    rows = run.table("test_examples").to_pylist()
    wrong = sum(row["label"] != row["predicted_label"] for row in rows)
    told = printed(executed)
    assert f"{kept_run.TRAIN} training examples explain {kept_run.TESTS} predictions" in told
    assert f"{wrong} of these are wrong" in told
    table1 = outputs(executed, "text/html")[0]
    for row in run.table("influence_sets").to_pylist():
        if row["method"] != "negative_influence" and row["method"] != "gradient_cosine":
            assert f"<td>{row['method']}</td>\n      <td>{row['cardinality']}</td>" in table1


def test_it_draws_and_explains(executed: Any) -> None:
    assert len(outputs(executed, "image/png")) >= 3
    assert len(outputs(executed, "text/html")) >= 3, "Table 1, an explanation, labels"
    assert not any(each.output_type == "error" for cell in executed.cells for each in cell.get("outputs", []))


def test_it_is_stored_with_its_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert "60,000 training examples explain 10,000 predictions of mnist_logistic" in printed(notebook)
    assert len(outputs(notebook, "image/png")) >= 3
    assert sum(map(len, outputs(notebook, "image/png"))) < LARGEST_PICTURES
    assert NOTEBOOK.stat().st_size < 1.5 * LARGEST_PICTURES


def test_its_outputs_name_no_place_of_a_machine() -> None:
    content = json.dumps([cell.get("outputs", []) for cell in read().cells])
    for word in ("/work", "/tmp", "/home", "/root", "Warning", "Traceback"):
        assert word not in content
