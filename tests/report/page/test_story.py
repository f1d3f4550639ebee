"""The story of a page: its rows are those of the inputs, its numbers those of the tables, its headline supported."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from relatif.pipeline.report.page.choosing import Story
from relatif.pipeline.report.page.page import chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import source_of
from tests.support.finished import NUMBERS, MadeUp, finished_run
from tests.support.page_inputs import write_kind, write_targets


def test_the_headline_needs_numbers_that_support_it(tmp_path: Path) -> None:
    page_of = {}
    for name, methods in (("both", ("influence", "l_relatif")), ("one", ("influence",))):
        run = finished_run(tmp_path / name, write_kind(tmp_path / f"{name}_data", "grey"), MadeUp(methods=methods))
        source = source_of(run)
        page_of[name] = page_data(source, chosen_from_tables(source))
    story = page_of["both"]["story"]
    assert page_of["one"]["story"] is None
    assert story["headline"] == "plain"  # 24 inputs tell too little
    assert [len(rows) for rows in story["rows"].values()] == [6, 6]
    train, explanations = page_of["both"]["train"], page_of["both"]["explanations"]
    for place, row in zip(story["inputs"], story["rows"]["influence"], strict=True):
        assert row == explanations[place]["methods"]["influence"]["helps"]["train"][:5]
    most = story["most"]["train"]
    assert train["fan"]["influence"][most] == max(train["fan"]["influence"])


def test_an_example_without_a_class_is_called_by_its_own_id(tmp_path: Path) -> None:
    data = write_targets(tmp_path / "data", 1)
    for ids in (True, False):
        run = finished_run(tmp_path / str(ids), data, MadeUp(kind=NUMBERS, ids=ids))
        source = source_of(run)
        lists = {method: source.tables.lists.train[method][:6, :5] for method in ("influence", "l_relatif")}
        source = replace(source, story=Story(np.arange(6), lists))
        made = page_data(source, chosen_from_tables(source))
        row = made["train"]["index"][made["story"]["most"]["train"]]
        called = f"the row 'train-{row}'" if ids else f"the row in row {row}"
        assert made["story"]["most"]["text"].startswith(f"The most frequent: {called}. IF names it for ")
