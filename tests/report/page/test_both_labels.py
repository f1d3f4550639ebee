"""One wrong answer for both labels: which one is chosen, and its examples against a matrix of all scores."""

import numpy as np
import pytest
import torch

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.report.page.both_labels import CANDIDATES, RANKS, both_labels, undecided
from relatif.pipeline.report.page.columns import Positions
from relatif.pipeline.report.page.deepening import engine_for, size_of_run
from relatif.pipeline.report.page.sources import Source, source_of
from relatif.pipeline.report.page.tables import Examples
from relatif.pipeline.runs.opening import open_finished
from tests.support.explained_runs import TRAINING, finished

WEAK = "train.weight_decay=10"
"""So much that the model is wrong about some inputs."""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(open_finished(str(finished(tmp_path_factory.mktemp("labels"), "logistic", WEAK))))


@pytest.fixture(scope="module")
def engine(source: Source) -> Engine:
    found = engine_for(source.run, size_of_run(source.run))
    assert found is not None
    return found


def test_the_answer_is_the_closest_one_and_its_examples_are_the_best(source: Source, engine: Engine) -> None:
    found = both_labels(source, engine)
    assert found is not None
    test = source.tables.test
    wrong = test.index[test.wrong()]
    chances = engine.rows("test", wrong.tolist(), "true").columns["probability"].numpy()
    assert found.test == wrong[chances.argmax()]
    place = int(test.places(np.array([found.test]))[0])
    labels = [int(test.classes[name][place]) for name in ("predicted_label", "label")]
    assert [side.label for side in found.sides] == labels
    assert found.sides[1].probability == pytest.approx(float(chances.max()))
    denominators = np.sqrt(np.asarray(source.tables.train.numbers["self_influence"], np.float64))
    for side in found.sides:
        influence = engine.influence(engine.rows("test", [found.test], side.label), torch.arange(TRAINING)[None])
        scores = influence.numpy()[0] / denominators
        assert list(side.rows) == np.argsort(-scores, kind="stable")[:RANKS].tolist()


def test_the_page_has_positions(source: Source, engine: Engine) -> None:
    found, train, test = both_labels(source, engine), Positions(), Positions()
    assert found is not None
    shown = found.json(train, test)
    assert test.rows[shown["test"]] == found.test
    assert shown["method"] == "l_relatif"
    for side, drawn in zip(found.sides, shown["sides"], strict=True):
        assert [train.rows[position] for position in drawn["train"]] == list(side.rows)
        assert drawn["label"] == side.label


def test_wrong_answers_near_a_half_come_first() -> None:
    count = CANDIDATES + 40
    probability = np.linspace(0.2, 0.95, count).astype(np.float32)
    predicted = np.zeros(count, np.int32)
    label = np.ones(count, np.int32)
    label[::7] = 0
    test = Examples(np.arange(count), {"probability": probability}, {"label": label, "predicted_label": predicted})
    found = undecided(test)
    far = np.abs(probability.astype(np.float64) - 0.5)
    assert set(found.tolist()) <= set(np.flatnonzero(label != predicted).tolist())
    assert (np.diff(far[found]) >= 0).all()
    assert len(found) == min(CANDIDATES, int((label != predicted).sum()))
