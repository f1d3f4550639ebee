"""What is shown of an explanation is what the run's tables say of it, in words."""

import json
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.explaining.finished_run import FinishedRun, open_finished_run
from relatif.pipeline.showing.shown import amount, probability
from tests.support.explained_runs import TRAINING
from tests.support.letters import letters_run, pictures_run

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def letters() -> FinishedRun:
    """A run on names."""
    return open_finished_run(letters_run())


@pytest.fixture(scope="module")
def pictures() -> FinishedRun:
    """A run on pictures."""
    return open_finished_run(pictures_run())


def test_a_test_input_and_its_helpers_look_as_the_data_do(pictures: FinishedRun) -> None:
    found = pictures.explain(5, "true", top=3, harms=2)
    shown = found.shown()
    test, train = (
        read_shard(pictures.data, pictures.dataset, pictures.dataset.shards(part, rows=1000)[0])
        for part in ("test", "train")
    )
    assert isinstance(test.inputs, torch.Tensor)
    assert isinstance(train.inputs, torch.Tensor)
    assert np.array_equal(shown.media.picture, test.inputs[5].numpy())  # type: ignore[arg-type]
    name = pictures.dataset.class_name(int(test.labels[5]))
    facts = dict(shown.facts)
    assert (facts["explained"], facts["label"]) == (name, name)
    assert facts["probability"] == probability(found.probability)
    assert [method.name for method in shown.methods] == [each for each in found.methods if each != "negative_influence"]
    for method in shown.methods:
        assert [each.index for each in method.helps] == [each.train_index for each in found.methods[method.name]]
        assert [each.index for each in method.harms] == [each.train_index for each in found.harms.get(method.name, ())]
        for each in (*method.helps, *method.harms):
            assert np.array_equal(each.media.picture, train.inputs[each.index].numpy())  # type: ignore[arg-type]
            assert each.label == pictures.dataset.class_name(int(train.labels[each.index]))
            assert each.predicted != each.label
            has_effect = method.name not in ("nearest_neighbour", "gradient_cosine")
            assert each.corrected == (found.corrected[each.index] if has_effect else None)
    assert shown.meaning.startswith(
        "effect: leaving the example out would raise the loss of this input by about so much"
    )
    assert f"n = {TRAINING:,}" in shown.meaning
    lines = repr(found).splitlines()
    assert lines[0] == shown.told
    assert len(lines) < 100, "a prompt shows tables and no tensors"


def test_a_typed_name_of_the_test_set_has_the_explanation_of_its_row(letters: FinishedRun) -> None:
    for row in (0, 3):
        text = letters.explain(row).shown().media.text
        assert text is not None
        by_row, typed = letters.explain(row, top=4, harms=1), letters.explain(text, top=4, harms=1)
        by_dict = letters.explain({"text": text}, top=4, harms=1)
        assert by_row.methods == typed.methods == by_dict.methods
        assert by_row.harms == typed.harms
        assert by_row.probability == typed.probability
        assert typed.shown().told == f"the text {text!r}"
        other = letters.explain(text, "Polish", top=1)
        assert other.class_name(other.explained_label) == "Polish"


def test_the_json_has_the_parts_that_are_asked_for(letters: FinishedRun) -> None:
    found = letters.explain("Bakov", top=2, harms=1)
    plain, by_layer, by_token = (json.loads(json.dumps(found.as_json(by))) for by in (None, "layer", "token"))
    assert plain["notes"] == []
    assert "parts" not in plain["methods"]["influence"][0]
    for side in ("methods", "harms"):
        for method in ("influence", "l_relatif"):
            rows = plain[side][method]
            assert rows
            assert [row["corrected"] for row in rows] == [found.corrected[row["train_index"]] for row in rows]
    assert all("corrected" not in row for row in plain["methods"]["nearest_neighbour"])
    for side in ("methods", "harms"):
        for rows, others in zip(by_layer[side]["influence"], by_token[side]["influence"], strict=True):
            assert set(rows["parts"]["layers"]) == {"words", "layer", "head"}
            assert sum(rows["parts"]["layers"].values()) == pytest.approx(rows["score"], rel=1e-5)
            tokens = others["parts"]["tokens"]
            assert sum(value for _, value in tokens) + others["parts"]["rest"] == pytest.approx(
                others["score"], rel=1e-5
            )
            assert all(letter for letter, _ in tokens)
    assert "parts" not in by_token["methods"]["nearest_neighbour"][0]
    assert found.shown("token").notes == ("not applied token by token: head",)


def test_a_notebook_gets_html_with_the_amounts(letters: FinishedRun) -> None:
    found = letters.explain("Nówak", top=2)
    words: list[str] = []
    reader = HTMLParser()
    reader.handle_data = words.append  # type: ignore[method-assign]
    reader.feed(found._repr_html_())
    first = found.methods["influence"][0]
    assert amount(first.effect, "nat") in words or f" {amount(first.effect, 'nat')}" in words
    assert "its accents were dropped, as of all surnames" in words
    assert any("corrected" in each for each in words)
