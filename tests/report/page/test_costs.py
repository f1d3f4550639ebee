"""What parts of a page cost: the multiplications that a model makes, counted by hand, and notes of what is left out."""

import pytest

from relatif.pipeline.explaining.engine import Engine, load_engine
from relatif.pipeline.report.page import costs as module
from relatif.pipeline.report.page.corrections import TEST_CALLS
from relatif.pipeline.report.page.costs import CALL_OPERATIONS, Costs, costs_of
from relatif.pipeline.report.page.deepening import Size, size_of_run
from relatif.pipeline.report.page.engine_parts import EngineParts, deepen
from relatif.pipeline.report.page.page import chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.runs.opening import open_finished
from tests.support.explained_runs import finished

COUNT = 8


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(open_finished(str(finished(tmp_path_factory.mktemp("costs"), "logistic"))))


@pytest.fixture(scope="module")
def engine(source: Source) -> Engine:
    return load_engine(source.run)


def test_a_pass_forward_and_back_is_three_of_its_products(source: Source, engine: Engine) -> None:
    # A linear layer of 36 inputs and 4 outputs, with a bias: the parameters are more than the multiplications.
    size = size_of_run(source.run)
    assert costs_of(engine, size) == Costs(6 * (36 * 4 + 4), 2 * CALL_OPERATIONS)
    few = Size(size.examples, 1, 1, size.numbers, dense=False, iterative=False)
    assert costs_of(engine, few).example == 6 * 36 * 4


def test_a_model_that_lets_nobody_count_costs_its_parameters(
    source: Source, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise module.RelatifError("expected outputs, found none; look")

    monkeypatch.setattr(module, "run_model", refused)
    assert costs_of(engine, size_of_run(source.run)).example == 6 * (36 * 4 + 4)


def test_a_page_says_what_would_take_long_and_makes_the_rest(source: Source, engine: Engine) -> None:
    told: list[str] = []
    size = size_of_run(source.run)

    def page(costs: Costs) -> tuple[str, list[object]]:
        parts = EngineParts(size, engine, costs=costs, tell=lambda _, text: told.append(text))
        made = page_data(source, deepen(source, parts, chosen_from_tables(source, COUNT)))
        return made["run"]["sample"], [
            each["methods"]["influence"]["helps"]["corrected"] for each in made["explanations"]
        ]

    words, all_of_them = page(costs_of(engine, size))
    assert "would take long" not in words
    assert all(all_of_them)
    counted = [[int(word.replace(",", "")) for word in text.split() if word[0].isdigit()] for text in told]
    corrected = [each for each, text in zip(counted, told, strict=True) if text.startswith("corrected ")]
    assert corrected == sorted(corrected)
    assert corrected[-1][0] == corrected[-1][1] > corrected[0][0]
    # Calls of half of the inputs are as many as may be: the outputs' and a few more for each.
    per_input = 4 + TEST_CALLS
    words, first_half = page(Costs(0, module.OPERATIONS // (COUNT // 2 * per_input)))
    assert f"; corrected effects are those of the first {COUNT // 2} inputs, as more would take long" in words
    assert first_half[: COUNT // 2] == all_of_them[: COUNT // 2]
    assert all(value is None for each in first_half[COUNT // 2 :] for value in each)  # type: ignore[attr-defined]
    assert "; without corrected effects, which would take long" in page(Costs(module.OPERATIONS, 0))[0]
