"""Factors and tables are equal bit by bit whatever they are computed on, and in every value however they are cut.

Real images: their sums are long enough that another order of additions would show in the last bits.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.support.runs import MNIST, config, dense, file_bytes, run_named, tables

TRAINING, TESTS = 3000, 1100
BASE = (
    f"data.train_limit={TRAINING}",
    "data.shard_rows=1000",
    f"score.test_limit={TESTS}",
    "train.tolerance=1e-2",
    "score.write_scores=true",
    "cluster.workers=1",
    "cluster.threads_per_worker=1",
)
"""Tasks of 4 shards, more than there are."""

ON_OTHER_MACHINES = [
    ("kfac", "cluster.workers=2"),
    ("kfac", "cluster.threads_per_worker=2"),
    ("kfac", "cluster.shards_per_task=1"),
    ("kfac", "cluster.shards_per_task=3"),
    ("ekfac", "cluster.workers=2", "cluster.shards_per_task=1"),
    ("ekfac", "cluster.threads_per_worker=2", "cluster.shards_per_task=3"),
]
ROUNDING = 1e-6
"""Relative to the largest influence on a test input: a product may round otherwise in a block of other height."""

Runs = Callable[..., Path]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Runs:
    """Runs by their settings; each is made once."""
    folder = tmp_path_factory.mktemp("equality")

    @cache
    def made(method: str, *settings: str) -> Path:
        out = folder / "-".join([method, *settings])
        run_named(config(MNIST, *BASE, f"curvature.method={method}", *settings, task="mnist_logistic"), out)
        return out

    return made


@pytest.mark.parametrize("settings", ON_OTHER_MACHINES, ids=" ".join)
def test_workers_threads_and_tasks_change_no_bit(run: Runs, settings: tuple[str, ...]) -> None:
    for part in ("checkpoint/*.safetensors", "factors/*.safetensors", "tables/**/*.parquet"):
        found, expected = file_bytes(run(*settings), part), file_bytes(run(settings[0]), part)
        assert list(found) == list(expected)
        assert len(expected) >= 1
        assert [name for name in expected if found[name] != expected[name]] == []


@pytest.mark.parametrize("setting", ["score.unit_rows=1000", "score.test_block_rows=1000"])
def test_units_and_blocks_change_no_value(run: Runs, setting: str) -> None:
    found, expected = tables(run("kfac", setting, "cluster.workers=2")), tables(run("kfac"))
    assert list(found) == list(expected)
    for name in set(expected) - {"scores"}:
        assert found[name].equals(expected[name]), name
    ours, theirs = (dense(each["scores"], TESTS, TRAINING) for each in (found, expected))
    if "block" in setting:
        assert (abs(ours - theirs).max(axis=1) <= ROUNDING * abs(theirs).max(axis=1)).all()
    else:
        assert np.array_equal(ours, theirs)


def test_the_cuts_are_what_they_are_meant_to_be(run: Runs) -> None:
    def parts(setting: str) -> list[str]:
        return [Path(name).stem for name in file_bytes(run("kfac", setting, "cluster.workers=2"), "tables/scores/*")]

    assert parts("score.unit_rows=1000") == ["part-00000-00000", "part-00000-00001", "part-00000-00002"]
    assert parts("score.test_block_rows=1000") == ["part-00000-00000", "part-00001-00000"]
