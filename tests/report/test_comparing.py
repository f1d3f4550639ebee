"""Agreement of explanations, against counting them one by one; what can't be compared is told."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.report.comparing import compare, comparison_text, open_compared
from relatif.schemas.errors import ConfigurationError, DataError, MissingStageError
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K
from tests.support.table_rows import filled

TESTS, TRAINING, RANKS = 9, 12, 5
METHODS = ("influence", "l_relatif")
Lists = dict[tuple[str, int], list[int]]


def drawn(seed: int, *, tests: Sequence[int] = range(TESTS), ranks: int = RANKS) -> Lists:
    random = np.random.default_rng(seed)
    return {
        (method, test): random.choice(TRAINING, ranks, replace=False).tolist() for method in METHODS for test in tests
    }


def written(folder: Path, lists: Lists, *, data: str = "data", ids: str | None = None, by_part: bool = True) -> Path:
    """Write what is read of a run: its record, explanations and test inputs; ``ids`` stands before identifiers."""
    parts = {"train": f"{data} train", "test": f"{data} test"} if by_part else {}
    configuration = {"task": "mine:task", "data": {"source": "somewhere"} | ({"id_column": "id"} if ids else {})}
    recorded = {"fingerprint": data, "address": "somewhere", "parts": parts}
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"configuration": configuration, "data": recorded}))
    rows = [(*key, rank, train) for key, trains in lists.items() for rank, train in enumerate(trains, start=1)]
    columns = dict(zip(("method", "test_index", "rank", "train_index"), zip(*rows, strict=True), strict=True))
    shown = [None if ids is None else f"{ids}{train}" for train in columns["train_index"]]
    tests = sorted({test for _, test in lists})
    _write(folder, filled(TOP_K, columns | {"score": [0.0] * len(rows), "train_id": shown}))
    named = [None if ids is None else f"{ids}{test}" for test in tests]
    numbers = {name: [0.0] * len(tests) for name in ("loss", "self_influence")}
    _write(folder, filled(TEST_EXAMPLES, {"test_index": tests, "test_id": named, **numbers}))
    return folder


def _write(folder: Path, table: pa.Table) -> None:
    name = TOP_K.name if "rank" in table.schema.names else TEST_EXAMPLES.name
    (folder / "tables" / name).mkdir(parents=True)
    pq.write_table(table, folder / "tables" / name / "part-00000.parquet")


def compared(*folders: Path, top: int | None = None) -> pa.Table:
    return compare([open_compared(str(folder)) for folder in folders], top=top)


@pytest.mark.parametrize("top", [None, 1, 3])
def test_overlap_and_rank_correlation_are_those_counted_one_by_one(tmp_path: Path, top: int | None) -> None:
    lists = drawn(0), drawn(1)
    folders = [written(tmp_path / name, each) for name, each in zip("ab", lists, strict=True)]
    count = top or RANKS
    found = compared(*folders, top=top)
    assert found.num_rows == len(METHODS) * TESTS
    for row in found.to_pylist():
        key = row["method"], int(row["test"])
        first, second = (each[key][:count] for each in lists)
        union = sorted({*first, *second})
        ranks = [[each.index(train) + 1 if train in each else count + 1 for train in union] for each in (first, second)]
        assert row["overlap"] == len({*first} & {*second}) / count
        assert row["same_first"] == (first[0] == second[0])
        if len(set(ranks[0])) == 1:
            assert row["rank_correlation"] is None
        else:
            assert row["rank_correlation"] == pytest.approx(statistics.correlation(*ranks), abs=1e-12)


def test_a_run_agrees_with_its_copy_and_a_reversed_one_has_the_same_examples(tmp_path: Path) -> None:
    lists = drawn(0)
    backwards = {key: trains[::-1] for key, trains in lists.items()}
    folders = [written(tmp_path / name, each) for name, each in (("a", lists), ("b", lists), ("c", backwards))]
    found = (
        compared(*folders)
        .group_by(["run_a", "run_b"])
        .aggregate([("overlap", "mean"), ("rank_correlation", "mean"), ("same_first", "any")])
    )
    a, b, c = map(str, folders)
    rows = {(row["run_a"], row["run_b"]): tuple(row.values())[2:] for row in found.to_pylist()}
    assert rows == {(a, b): (1, 1, True), (a, c): (1, -1, False), (b, c): (1, -1, False)}


def test_only_inputs_and_methods_of_both_are_compared(tmp_path: Path) -> None:
    some = {key: trains for key, trains in drawn(1, tests=range(4, TESTS), ranks=3).items() if key[0] == "l_relatif"}
    found = compared(written(tmp_path / "a", drawn(0)), written(tmp_path / "b", some))
    assert set(found["method"].to_pylist()) == {"l_relatif"}
    assert found["test"].to_pylist() == ["4", "5", "6", "7", "8"]
    assert set(found["top"].to_pylist()) == {3}


def test_runs_of_other_data_are_matched_by_identifiers(tmp_path: Path) -> None:
    lists = drawn(0)
    a = written(tmp_path / "a", lists, ids="x")
    b = written(tmp_path / "b", lists, ids="x", data="other")
    found = compared(a, b)
    assert set(found["by"].to_pylist()) == {"test_id"}
    assert found["test"][0].as_py() == "x0"
    assert set(found["overlap"].to_pylist()) == {1.0}
    with pytest.raises(DataError, match=r"found other data and no identifiers in .*c"):
        compared(a, written(tmp_path / "c", lists, data="other"))


def test_the_older_record_is_compared_by_its_whole_data(tmp_path: Path) -> None:
    a, b = (written(tmp_path / name, drawn(0), by_part=False) for name in "ab")
    assert set(compared(a, b)["by"].to_pylist()) == {"test_index"}


def test_what_cannot_be_compared_is_told(tmp_path: Path) -> None:
    a = written(tmp_path / "a", drawn(0))
    with pytest.raises(ConfigurationError, match="two runs or more to compare, found one"):
        compared(a, a)
    with pytest.raises(ConfigurationError, match=r"--top between 1 and 5, .* found 6"):
        compared(a, written(tmp_path / "b", drawn(1)), top=6)
    with pytest.raises(DataError, match=r"expected inputs that .* explain by the same method, found none"):
        compared(a, written(tmp_path / "c", drawn(1, tests=[100])))
    with pytest.raises(MissingStageError, match=r"found no run\.json"):
        open_compared(str(tmp_path / "nowhere"))
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "run.json").write_bytes((a / "run.json").read_bytes())
    with pytest.raises(MissingStageError, match="found no tables/top_k"):
        open_compared(str(tmp_path / "d"))


def test_the_text_has_means_by_method_and_names_where_runs_differ_most(tmp_path: Path) -> None:
    lists = drawn(0)
    other = dict(lists)
    # Nothing in common for one input, and another order for a second.
    other["influence", 7] = [train for train in range(TRAINING) if train not in lists["influence", 7]][:RANKS]
    other["influence", 2] = lists["influence", 2][::-1]
    folders = [written(tmp_path / name, each) for name, each in zip("ab", (lists, other), strict=True)]
    lines = comparison_text(compared(*folders)).splitlines()
    assert lines[0] == f"{folders[0]} beside {folders[1]}: the first 5 examples of each input, matched by index"
    assert lines[-1].endswith("; one that a list lacks counts as rank 6")
    influence, relatif = (line.split() for line in lines[-4:-2])
    mean = (TESTS - 2 - 1 + statistics.correlation([1, 2, 3, 4, 5, *[6] * 5], [*[6] * 5, 1, 2, 3, 4, 5])) / TESTS
    assert influence[:5] == ["IF", "9", f"{(TESTS - 1) / TESTS:.4f}", f"{mean:.4f}", f"{(TESTS - 2) / TESTS:.2%}"]
    assert [word.strip(",") for word in influence[5:]] == ["7", "2"]
    assert relatif == ["l-RelatIF", "9", "1.0000", "1.0000", "100.00%"], "no input is named where none differs"
