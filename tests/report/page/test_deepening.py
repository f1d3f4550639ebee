"""What the engine adds to a page of small runs, against the matrix of all scores, all distances and all effects."""

import numpy as np
import pytest
import torch

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.inputs import features
from relatif.pipeline.report.page import deepening
from relatif.pipeline.report.page.engine_parts import EngineParts, deepen, engine_parts
from relatif.pipeline.report.page.page import Chosen, chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.report.page.story import median_places
from relatif.pipeline.runs.opening import open_finished
from relatif.schemas.methods import METHODS
from tests.support.explained_runs import TRAINING, finished

COUNT = 8


# Kept gradients are rounded; what a page of a small run shows is not.
@pytest.fixture(scope="module", params=["false", "true"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    kept = f"score.gradient_store={request.param}"
    return source_of(open_finished(str(finished(tmp_path_factory.mktemp("deep"), "logistic", kept))))


@pytest.fixture(scope="module")
def parts(source: Source) -> EngineParts:
    return engine_parts(source.run)


@pytest.fixture(scope="module")
def deep(source: Source, parts: EngineParts) -> Chosen:
    return deepen(source, parts, chosen_from_tables(source, COUNT))


def dense(source: Source, engine: Engine, chosen: Chosen) -> np.ndarray:
    """Return the influence of every training example on the chosen inputs, pair by pair, [M, N]."""
    queries = engine.rows("test", source.tables.test.index[chosen.places].tolist())
    rows = torch.arange(TRAINING).expand(len(chosen.places), -1)
    return engine.influence(queries, rows).numpy()


def below(source: Source, method: str) -> np.ndarray:
    asked = METHODS[method]
    if asked.denominator is None:
        return np.ones(TRAINING)
    values = np.asarray(source.tables.train.numbers[asked.denominator], np.float64)
    return np.sqrt(values) if asked.root else values


def test_harms_and_histograms_are_those_of_all_scores(source: Source, parts: EngineParts, deep: Chosen) -> None:
    assert parts.engine is not None
    influence = dense(source, parts.engine, deep)
    for method in ("influence", "theta_relatif", "l_relatif"):
        scores = influence / below(source, method)
        for number, each in enumerate(deep.explanations):
            sides = each[method]
            assert sides.harms is not None
            assert sides.histogram is not None
            lowest = np.argsort(scores[number], kind="stable")[:10]
            expected = lowest[scores[number][lowest] < 0]
            assert sides.harms.train.tolist() == expected.tolist()
            assert sides.harms.score == pytest.approx(scores[number][expected], rel=1e-4)
            assert sides.harms.effect == pytest.approx(influence[number][expected] / TRAINING, rel=1e-4)
            assert sides.helps.effect == pytest.approx(influence[number][sides.helps.train] / TRAINING, rel=1e-4)
            found = sides.histogram
            assert (found.helping, found.harming) == ((scores[number] > 0).sum(), (scores[number] < 0).sum())
            assert found.counts.sum() == TRAINING
            assert (found.low, found.high) == pytest.approx((scores[number].min(), scores[number].max()), rel=1e-4)


def test_neighbours_have_their_exact_effect_and_every_card_its_place(
    source: Source, parts: EngineParts, deep: Chosen
) -> None:
    assert parts.engine is not None
    influence = dense(source, parts.engine, deep)
    queries = parts.engine.rows("test", source.tables.test.index[deep.places].tolist())
    training = features(parts.engine.rows("train", range(TRAINING)).inputs)
    apart = torch.cdist(features(queries.inputs), training, compute_mode="donot_use_mm_for_euclid_dist").numpy()
    places = np.argsort(np.argsort(apart, axis=1, kind="stable"), axis=1) + 1
    for number, each in enumerate(deep.explanations):
        nearest = each["nearest_neighbour"].helps
        assert nearest.effect == pytest.approx(influence[number][nearest.train] / TRAINING, rel=1e-6)
        for sides in each.values():
            for side in (sides.helps, sides.harms):
                if side is not None:
                    assert side.place is not None
                    assert side.place.tolist() == places[number][side.train].tolist()
    nearest_places = [place for each in deep.explanations for place in each["nearest_neighbour"].helps.place]
    assert median_places(deep.explanations)["nearest_neighbour"] == int(np.median(nearest_places))


def test_the_page_holds_what_was_added(source: Source, deep: Chosen) -> None:
    page = page_data(source, deep)
    for each, shown in zip(page["explanations"], deep.explanations, strict=True):
        for method, sides in each["methods"].items():
            helps = shown[method].helps
            assert sides["helps"]["place"] == helps.place.tolist()
            assert (sides["histogram"] is None) is (
                method in ("nearest_neighbour", "gradient_cosine") and shown[method].histogram is None
            )
            corrected = [None if np.isnan(value) else value for value in helps.corrected]
            found = sides["helps"]["corrected"]
            assert [value is None for value in found] == [value is None for value in corrected]
            # A leverage of all but nothing: both orders agree in sign, and the second is no larger than several times.
            assert all(a * b >= 0 for a, b in zip(found, sides["helps"]["effect"], strict=True) if a is not None)
    assert "adds" not in page["run"]["sample"]
    assert [bar["title"] for bar in page["story"]["bars"]][-1] == "Median place of a listed image by input distance"


def test_labels_to_look_at_are_examples_of_the_page(source: Source, parts: EngineParts, deep: Chosen) -> None:
    page = page_data(source, deep)
    assert parts.labels is not None
    train, fan = page["train"], source.counts.fan["influence"]
    assert len(page["labels"]["rows"]) == len(parts.labels["rows"]) > 0
    for shown, row in zip(page["labels"]["rows"], parts.labels["rows"], strict=True):
        assert train["index"][shown["train"]] == row["train"]
        assert shown["touches"]["influence"] == fan[row["train"]] == train["fan"]["influence"][shown["train"]]
        for name in ("helpers_label", "helpers_suggested", "nearest"):
            assert [train["index"][position] for position in shown[name]] == list(row[name])


def test_influence_by_class_is_the_sum_over_the_pages_inputs(source: Source, parts: EngineParts, deep: Chosen) -> None:
    assert parts.engine is not None
    found = page_data(source, deep)["whole"]["influence_by_class"]
    assert found["inputs"] == "page"
    influence = dense(source, parts.engine, deep) / TRAINING
    explained, labels = source.tables.test.classes["explained_label"][deep.places], source.tables.train.classes["label"]
    classes = range(len(found["classes"]))
    expected = [[influence[explained == a][:, labels == b].sum() for b in classes] for a in classes]
    assert np.abs(expected).max() > 0
    assert np.array(found["values"]) == pytest.approx(np.array(expected), rel=1e-5, abs=1e-12)


def test_a_page_of_rounded_gradients_says_so(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepening, "EXACT_OPERATIONS", 0)
    parts = engine_parts(source.run)
    kept = source.run.config.score.gradient_store
    assert parts.engine is not None
    assert parts.engine.training.is_stored == kept
    if kept:
        page = page_data(source, deepen(source, parts, chosen_from_tables(source, COUNT)))
        assert "its histograms and their counts are of gradients rounded to bfloat16" in page["run"]["sample"]
        for each in page["explanations"]:
            for sides in each["methods"].values():
                bars = sides["histogram"]
                if bars is not None:
                    # The ends are those of the exact lists.
                    assert bars["rounded"]
                    assert bars["high"] == sides["helps"]["score"][0]
                    assert sides["harms"] is None or bars["low"] == sides["harms"]["score"][0]
