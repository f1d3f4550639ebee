"""Times are measured on few rows and scaled; what the budget allows is used."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relatif.pipeline.preflight import timing
from relatif.pipeline.preflight.layers import blocks_of
from relatif.pipeline.preflight.machine import this_machine
from relatif.pipeline.preflight.opening import opened
from relatif.pipeline.preflight.subject import untrained
from relatif.pipeline.preflight.timing import estimate, seconds_per_row
from tests.support.images import MINIBATCHES, write_images
from tests.support.runs import config


def test_seconds_of_a_row_are_those_of_many_rows() -> None:
    taken: list[int] = []

    def work(rows: int) -> None:
        taken.append(rows)
        time.sleep(rows * 0.002)

    assert 0.002 <= seconds_per_row(work, 1000) < 0.004
    assert taken == [2, 8, 32, 128], "the first call does not count, the last one takes the budget"
    assert taken[-1] * 0.002 >= timing.BUDGET_SECONDS


def test_a_pass_that_takes_long_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BUDGET_SECONDS", 0.001)
    taken: list[int] = []

    def work(rows: int) -> None:
        taken.append(rows)
        time.sleep(0.01)

    assert seconds_per_row(work, 1000) >= 0.005
    assert taken == [2]


def of_a_row(work: Callable[[int], object], available: int) -> float:
    """Do a row's work and call it a millisecond."""
    work(min(available, 1))
    return 0.001


@pytest.mark.parametrize("method", ["kfac", "ekfac", "exact", "identity", "cg"])
def test_every_curvature_has_an_estimate_that_grows_with_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(timing, "seconds_per_row", of_a_row)
    settings = (f"curvature.method={method}", "train.epochs=7", "cluster.local_cpus=2")
    found = {}
    for rows in (100, 1000):
        data = write_images(tmp_path / str(rows), train=rows)
        with opened(config(data, *settings, task=MINIBATCHES), str(tmp_path / "out")) as run:
            subject = untrained(run)
            blocks = blocks_of(subject.forward())
            found[rows] = estimate(run, subject, blocks, this_machine(run.config.cluster))
        assert list(found[rows].stages) == ["train", "factors"] + (["score"] if method != "cg" else [])
        assert found[rows].pass_seconds == pytest.approx(rows * 0.001 / 2)
        assert found[rows].stages["train"] == pytest.approx(7 * rows * 0.001 / 2)
    if method not in ("cg", "identity"):
        assert found[1000].stages["factors"] > 5 * found[100].stages["factors"]
