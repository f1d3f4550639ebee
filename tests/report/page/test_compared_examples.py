"""Runs on the same data share what reads it; what a run does not say is left out and not made up."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from relatif.pipeline.report.comparing import open_compared
from relatif.pipeline.report.page.compared_examples import shelves_of, shown_examples
from tests.support import kept_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return kept_run.unpacked(tmp_path_factory.mktemp("kept"))


def test_runs_on_the_same_data_share_a_shelf(out: Path, tmp_path: Path) -> None:
    runs = [open_compared(str(each)) for each in (out, shutil.copytree(out, tmp_path / "copy"))]
    first, second = shelves_of(runs)
    assert (first.place, second.place) == (0, 0)
    assert first.run is second.run is not None


def test_an_input_that_one_run_leaves_out_has_no_answer_of_it(out: Path, tmp_path: Path) -> None:
    other = shutil.copytree(out, tmp_path / "copy")
    part = other / "tables/test_examples/part-00000.parquet"
    pq.write_table(pq.read_table(part).slice(0, 5), part)
    runs = [open_compared(str(each)) for each in (out, other)]
    found = shown_examples(runs, shelves_of(runs), train=[(0, 3)], test=[(0, 4), (0, 17)])
    own, others = found["test"]["answers"]
    assert None not in own
    assert others == [own[0], None]
    assert found["train"]["index"] == [3]
    assert found["train"]["id"] == ["train-3"]


def test_rows_that_were_never_trained_on_are_called_scored(out: Path) -> None:
    run = open_compared(str(out))
    config = run.record.config.model_copy(update={"data": run.record.config.data.model_copy(update={"scored": "pool"})})
    scored = replace(run, record=replace(run.record, config=config))
    for each, word in ((run, "training"), (scored, "scored")):
        found = shown_examples([each], shelves_of([run]), train=[], test=[])
        assert found["run"]["noun"]["train"] == [f"{word} image", f"{word} images"]


def test_without_data_examples_have_names_alone(out: Path, tmp_path: Path) -> None:
    moved = kept_run.unpacked(tmp_path)
    shutil.rmtree(tmp_path / "data")
    runs = [open_compared(str(moved))]
    (shelf,) = shelves_of(runs)
    assert shelf.run is None
    found = shown_examples(runs, [shelf], train=[(0, 3)], test=[(0, 4)])
    assert found["run"]["media"] == "none"
    assert found["sheets"] is None
    assert found["train"]["id"] == ["train-3"]
    assert found["test"]["label"] != [None]
