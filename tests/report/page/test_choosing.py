"""Which inputs a page explains and which tell its story, against the rules in words."""

import numpy as np
import pytest

from relatif.pipeline.report.page.choosing import ERROR_SHARE, chosen_inputs, chosen_story, severity
from relatif.pipeline.report.page.tables import Examples, Lists, PageTables

COUNT = 200


def examples(seed: int = 0, *, classes: bool = True) -> Examples:
    chance = np.random.default_rng(seed)
    numbers = {"loss": chance.gamma(2.0, size=COUNT), "probability": chance.random(COUNT)}
    label = chance.integers(0, 3, COUNT).astype(np.int32)
    predicted = np.where(chance.random(COUNT) < 0.6, label, (label + 1) % 3).astype(np.int32)
    if not classes:
        rest = {"target": chance.normal(size=COUNT), "prediction": chance.normal(size=COUNT)}
        return Examples(np.arange(COUNT) * 3, {"loss": numbers["loss"], **rest}, {})
    named = {"label": label, "predicted_label": predicted, "explained_label": predicted}
    return Examples(np.arange(COUNT) * 3, numbers, named)


def test_the_most_confident_errors_come_first_and_right_answers_are_there_too() -> None:
    test = examples()
    chosen = chosen_inputs(test, 50, first=[7, 11])
    wrong, confidence = test.wrong(), test.numbers["probability"]
    worst = sorted(np.flatnonzero(wrong), key=lambda place: -confidence[place])[: int(50 * ERROR_SHARE)]
    assert len(chosen) == len(set(chosen.tolist())) == 50
    assert {*worst, 7, 11} <= set(chosen.tolist())
    assert 50 - int(50 * ERROR_SHARE) - 2 <= (~wrong[chosen]).sum()
    ordered = sorted(chosen.tolist(), key=lambda place: (not wrong[place], -confidence[place]))
    assert chosen.tolist() == ordered
    assert chosen.tolist() == chosen_inputs(test, 50, first=[7, 11]).tolist()


def test_all_inputs_are_there_where_they_are_few() -> None:
    assert sorted(chosen_inputs(examples(), COUNT).tolist()) == list(range(COUNT))


def test_a_low_probability_of_another_label_is_a_confident_prediction() -> None:
    test = examples()
    other = Examples(test.index, test.numbers, test.classes | {"explained_label": test.classes["label"]})
    wrong = test.wrong()
    assert severity(other)[wrong] == pytest.approx(1 - test.numbers["probability"][wrong])
    assert severity(other)[~wrong] == pytest.approx(test.numbers["probability"][~wrong])


def test_of_numbers_the_largest_residuals_come_first() -> None:
    test = examples(classes=False)
    chosen = chosen_inputs(test, 20)
    size = np.abs(test.numbers["target"] - test.numbers["prediction"])
    assert size[chosen].tolist() == sorted(size[chosen], reverse=True)
    assert set(np.argsort(-size)[:12].tolist()) <= set(chosen.tolist())


def tables(influence: np.ndarray, relative: np.ndarray, wrong: tuple[int, ...] = ()) -> PageTables:
    count = len(influence)
    label = np.zeros(count, np.int32)
    predicted = label.copy()
    predicted[list(wrong)] = 1
    classes = {"label": label, "predicted_label": predicted, "explained_label": np.zeros(count, np.int32)}
    test = Examples(np.arange(count), {"probability": np.ones(count)}, classes)
    train = Examples(np.arange(100), {}, {})
    return PageTables(train, test, Lists({"influence": influence, "l_relatif": relative}), {})


def test_the_story_is_of_two_groups_that_share_examples_by_influence_alone() -> None:
    chance = np.random.default_rng(0)
    relative = np.arange(40 * 6).reshape(40, 6).astype(np.int32) % 95
    influence = np.array([chance.choice(np.arange(20, 100), 6, replace=False) for _ in range(40)], np.int32)
    groups = ([2, 5, 6, 11, 17, 23, 29], [1, 3, 8, 12, 30])
    for number, group in enumerate(groups):
        influence[group, :5] = np.arange(5) + 10 * number
    # Two inputs of the first group have the same list by relative influence: not both are shown.
    relative[5] = relative[11]
    given = tables(influence, relative, wrong=(6,))
    given.test.classes["explained_label"][list(groups[1])] = 2
    story = chosen_story(given)
    assert story is not None
    first, second = set(story.inputs[:3].tolist()), set(story.inputs[3:].tolist())
    # One of the first seven is classified wrong: the story is of inputs that the model gets right.
    assert first <= set(groups[0]) - {6}
    assert second <= set(groups[1])
    assert not {5, 11} <= first
    assert story.different == {"influence": 10, "l_relatif": len(np.unique(relative[story.inputs, :5]))}
    assert chosen_story(tables(influence[:, :4], relative[:, :4])) is None
    assert chosen_story(tables(influence[:5], relative[:5])) is None
