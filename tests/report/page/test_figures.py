"""The paper's figures of images: which inputs and examples they show."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.report.page import figures
from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.figures import paper_figures, pictures_of_jobs, right_of_each_class
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.storage.store import open_store
from relatif.schemas import run_directory
from tests.support.finished import MadeUp, finished_run
from tests.support.page_inputs import write_kind

PLACES = np.arange(24)


@pytest.mark.parametrize(("experiment", "titles"), [("LR", ["3", "4", "8"]), ("CNN", ["3", "5, 10 and 11", "9"])])
def test_figures_of_the_paper_s_experiments_are_those_of_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, experiment: str, titles: list[str]
) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp())
    source, train, test = source_of(run), Positions(), Positions()
    monkeypatch.setattr(figures, "paper_of", lambda _: experiment)
    found = list(paper_figures(source, PLACES, train, test))
    named = [each["title"].partition(" of the paper: ")[0] for each in found]
    assert [each.removeprefix("Figs. ").removeprefix("Fig. ") for each in named] == titles
    for figure in found:
        inputs = [test.rows[position] for position in figure["inputs"]]
        for method, lists in figure["lists"].items():
            for row, listed in zip(inputs, lists, strict=True):
                place = int(source.tables.test.places(np.array([row]))[0])
                ranks = 1 if figure["title"].startswith("Fig. 3 ") else 5
                expected = source.tables.lists.train[method][place, :ranks].tolist()
                assert [train.rows[position] for position in listed] == expected
    labels = source.tables.test.classes["label"][right_of_each_class(source.tables.test, PLACES)]
    assert len(set(labels.tolist())) == len(labels)


def test_other_runs_have_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = finished_run(tmp_path / "out", write_kind(tmp_path / "data", "grey"), MadeUp())
    source = source_of(run)
    assert list(paper_figures(source, PLACES, Positions(), Positions())) == []
    monkeypatch.setattr(figures, "paper_of", lambda _: "LSTM")
    assert list(paper_figures(source, PLACES, Positions(), Positions())) == []
    monkeypatch.setattr(figures, "paper_of", lambda _: "LR")
    words = replace(source, look=replace(source.look, kind="text"))
    assert list(paper_figures(words, PLACES, Positions(), Positions())) == []


def test_pictures_that_jobs_left_are_shown(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert pictures_of_jobs(store) == []
    store.publish_bytes(run_directory.PLANE, b"a picture")
    (entry,) = pictures_of_jobs(store)
    assert base64.b64decode(entry["png"]) == b"a picture"
    assert entry["title"].startswith("Fig. 1")
