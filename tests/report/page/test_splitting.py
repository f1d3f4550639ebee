"""Scores on a page split by layer and token: the parts are those of one explanation, and add up to the score."""

from typing import Any

import numpy as np
import pytest

from relatif.pipeline.explaining.finished_run import open_finished_run
from relatif.pipeline.report.page.costs import OPERATIONS, Costs, Shown
from relatif.pipeline.report.page.engine_parts import deepen, engine_parts
from relatif.pipeline.report.page.lists import Ranked, Sides
from relatif.pipeline.report.page.page import chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import source_of
from relatif.pipeline.report.page.splitting import CALLS, RANKS, split_within
from relatif.pipeline.runs.opening import open_finished
from tests.support.letters import letters_run, pictures_run

INPUTS = 4
SIGNED = ("influence", "theta_relatif", "l_relatif")


def page_of(run: str) -> dict[str, Any]:
    source = source_of(open_finished(run))
    return page_data(source, deepen(source, engine_parts(source.run), chosen_from_tables(source, INPUTS)))


@pytest.fixture(scope="module")
def pictures() -> dict[str, Any]:
    return page_of(pictures_run())


@pytest.fixture(scope="module")
def letters() -> dict[str, Any]:
    return page_of(letters_run())


@pytest.mark.parametrize("kind", ["pictures", "letters"])
def test_parts_of_layers_add_up_to_the_score(request: pytest.FixtureRequest, kind: str) -> None:
    page, seen = request.getfixturevalue(kind), 0
    for each in page["explanations"]:
        for method in SIGNED:
            for side in ("helps", "harms"):
                listed = each["methods"][method][side]
                parts = listed["by_layer"]
                assert len(parts["names"]) > 1
                first = listed["score"][: len(parts["shares"])]
                assert len(first) == min(RANKS[0], len(listed["score"]))
                sums = np.array(parts["shares"]).sum(axis=1)
                # Six digits of each part, of which some may cancel.
                size = np.abs(parts["shares"]).max()
                assert sums == pytest.approx(first, rel=2e-5, abs=2e-5 * size)
                seen += len(first)
        assert "by_layer" not in each["methods"]["nearest_neighbour"]["helps"]
    assert seen > 0


def test_parts_of_tokens_are_those_of_a_single_explanation(letters: dict[str, Any]) -> None:
    run = open_finished_run(letters_run())
    for number, index in enumerate(letters["test"]["index"][:INPUTS]):
        found = run.explain(index, top=RANKS[0], harms=RANKS[0])
        told = found.as_json("token")
        for method in SIGNED:
            listed = letters["explanations"][number]["methods"][method]["helps"]
            assert len(listed["tokens"]) == len(told["methods"][method])
            for tokens, rest, row in zip(listed["tokens"], listed["rest"], told["methods"][method], strict=True):
                parts = row["parts"]
                assert [text for text, _ in tokens] == [text for text, _ in parts["tokens"]]
                size = max(abs(part) for _, part in parts["tokens"])
                assert [part for _, part in tokens] == pytest.approx(
                    [part for _, part in parts["tokens"]], rel=1e-5, abs=1e-6 * size
                )
                assert rest == pytest.approx(parts["rest"], rel=1e-5, abs=1e-6 * size)


def test_as_many_ranks_are_split_as_are_cheap() -> None:
    listed = Ranked(np.arange(10), np.ones(10))
    every = [{"influence": Sides(listed, listed), "nearest_neighbour": Sides(listed)}] * 2
    for ranks in RANKS:
        assert split_within(every, Costs(OPERATIONS // (2 * ranks), 0)) == Shown(2, ranks)
    assert split_within(every, Costs(OPERATIONS // 2 + 1, 0)) == Shown(1, 1)
    assert split_within(every, Costs(OPERATIONS + 1, 0)) == Shown(0, 0)
    assert split_within(every, Costs(0, OPERATIONS // CALLS)) == Shown(1, RANKS[0])
