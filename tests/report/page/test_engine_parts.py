"""Which runs have a page with what the engine adds, by counts alone, and what the others say."""

from pathlib import Path

import pytest

from relatif.pipeline.report.page import engine_parts as module
from relatif.pipeline.report.page.costs import Costs
from relatif.pipeline.report.page.deepening import PASS_OPERATIONS, Size, engine_for, size_of_run
from relatif.pipeline.report.page.engine_parts import deepen, engine_parts
from relatif.pipeline.report.page.page import chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.runs.opening import open_finished
from relatif.schemas.errors import ModelError
from tests.support.explained_runs import TRAINING, finished

COUNT = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(open_finished(str(finished(tmp_path_factory.mktemp("parts"), "logistic"))))


def test_a_small_run_has_the_engine_and_a_large_one_says_what_adds_it(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = size_of_run(source.run)
    assert (size.examples, size.covered, size.parameters) == (TRAINING, 36 * 4 + 4, 36 * 4 + 4)
    assert size.is_small
    assert engine_parts(source.run).engine is not None
    large = Size(PASS_OPERATIONS, 2, 1, 1, dense=False, iterative=False)
    assert not large.is_small
    logistic, convnet = (Size(n, p, p, 1, dense=False, iterative=False) for n, p in ((60_000, 7_850), (50_000, 24_234)))
    assert (logistic.is_small, logistic.is_exact) == (True, True)
    assert (convnet.is_small, convnet.is_exact) == (True, False)
    assert Size(10, 10**6, 10**6, 1, dense=True, iterative=False).pass_operations > PASS_OPERATIONS
    assert not Size(10, 10, 10, 10**12, dense=False, iterative=False).has_places(1)
    assert engine_for(source.run, large) is None
    monkeypatch.setattr(module, "size_of_run", lambda _: large)
    assert engine_parts(source.run).note.startswith("; score.gradient_store = true adds all scores' histograms")


def test_few_parameters_that_are_used_many_times_make_no_small_pass(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = Costs(module.LONGEST_PASS // TRAINING, 0)
    monkeypatch.setattr(module, "costs_of", lambda *_: many)
    assert engine_parts(source.run).engine is not None
    monkeypatch.setattr(module, "costs_of", lambda *_: Costs(many.example + 1, 0))
    parts = engine_parts(source.run)
    assert parts.engine is None
    assert parts.note.startswith("; score.gradient_store = true adds all scores' histograms")


def test_a_model_that_can_not_be_loaded_costs_its_parts_alone(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:

    def refused(*_: object) -> None:
        raise ModelError("expected a model, found none; look for it")

    monkeypatch.setattr(module, "engine_for", refused)
    parts = engine_parts(source.run)
    page = page_data(source, deepen(source, parts, chosen_from_tables(source, COUNT)))
    assert parts.engine is None
    assert "made from the tables alone" in page["run"]["sample"]


def test_an_iterative_curvature_has_a_page_of_its_tables(tmp_path: Path) -> None:
    iterative = source_of(open_finished(str(finished(tmp_path, "cg"))))
    parts = engine_parts(iterative.run)
    assert parts.engine is None
    chosen = deepen(iterative, parts, chosen_from_tables(iterative, COUNT))
    page = page_data(iterative, chosen)
    assert page["explanations"][0]["methods"]["l_relatif"]["harms"] is None
    assert "need a curvature in eigen form" in page["run"]["sample"]
