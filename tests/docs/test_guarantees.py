"""Every promise of docs/guarantees.md names tests that are there."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split(" | ")]
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith(("| promise |", "| --- |"))
]
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0][:60])
def test_a_promise_names_what_checks_it_and_what_it_costs(row: list[str]) -> None:
    assert len(row) == 3, "promise | what checks it | what it costs"
    promise, checks, cost = row
    assert promise
    assert cost
    named = TEST.findall(checks)
    assert named, f"expected a test for the promise {promise!r}"
    for path, function in named:
        tree = ast.parse((ROOT / path).read_text())
        tests = {node.name for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        assert tests, f"expected tests in {path}"
        assert not function or function in tests, f"expected {function} in {path}"
