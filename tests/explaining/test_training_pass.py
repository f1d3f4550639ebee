"""A pass over the training set tells how long it takes where that is worth telling."""

from pathlib import Path

import pytest

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining import training_pass
from relatif.pipeline.explaining.engine import load_engine
from relatif.pipeline.explaining.finished_run import open_finished_run
from tests.support.explained_runs import TRAINING, finished


@pytest.mark.parametrize(("seconds", "told"), [(10.0, ["about 20 s to go"]), (0.1, [])])
def test_what_is_left_is_told_after_the_second_piece(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, told: list[str]
) -> None:
    said: list[str] = []
    engine = load_engine(open_finished_run(finished(tmp_path, "logistic")), Worker(2), say=said.append)
    ends = iter(seconds * piece for piece in range(99))
    monkeypatch.setattr(training_pass.time, "perf_counter", lambda: next(ends))
    engine.best(engine.rows("test", [0]), ["influence"], k=1)
    beginning = f"explain: a pass over {TRAINING} examples, as no gradients are stored: "
    assert said == [beginning + text for text in told]
