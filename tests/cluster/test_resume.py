"""A driver that is killed in the middle of score: the same command ends what it began, with the same tables."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from relatif.schemas import run_directory
from relatif.schemas.reading import load_config
from tests.support.processes import Sandbox, job, sandbox, title, wait_until
from tests.support.runs import MNIST, MNIST_CONFIG, run_named, tables

pytestmark = pytest.mark.timeout(240)

UNITS = 8
SETTINGS = (
    f"data.source={MNIST}",
    f"data.train_limit={UNITS * 1000}",
    "data.shard_rows=1000",
    "train.tolerance=1e-2",
    "score.unit_rows=1000",
    "score.test_limit=2000",
    "cluster.workers=1",
    "cluster.threads_per_worker=1",
    "cluster.local_cpus=2",
    "cluster.object_store_bytes=150000000",
)
ORPHANS_GONE_SECONDS = 30
"""Ray's processes watch the driver that started them; without it they end by themselves, as a rule within 3 s."""

IDLE_HELPERS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They hold neither cores nor data, and give up about a minute after the rest of their Ray."""


@pytest.fixture
def alone() -> Iterator[Sandbox]:
    with sandbox() as made:
        yield made


def proofs(out: Path) -> dict[str, int]:
    """Names and times of the manifests of finished units."""
    return {path.stem: path.stat().st_mtime_ns for path in (out / run_directory.SCORE_WORK).glob("*.json")}


def orphans(alone: Sandbox) -> list[str]:
    """What a driver left running."""
    return [name for name in map(title, alone.processes()) if name not in ("", *IDLE_HELPERS)]


def test_a_killed_run_continues_and_its_tables_are_those_of_an_undisturbed_one(
    alone: Sandbox, tmp_path: Path, local_ray: None
) -> None:
    out = tmp_path / "run"
    command = job("run", MNIST_CONFIG, out, SETTINGS)
    driver = alone.start(*command)
    wait_until(lambda: proofs(out) or driver.poll() is not None, timeout=100)
    driver.kill()
    _, log = driver.communicate(timeout=20)
    assert driver.returncode == -signal.SIGKILL, log
    wait_until(lambda: not orphans(alone), timeout=ORPHANS_GONE_SECONDS)

    finished = proofs(out)
    assert 1 <= len(finished) < UNITS, "the kill must fall into the middle of the stage"
    assert not (out / run_directory.stage_manifest("score")).exists()
    checkpoint = (out / run_directory.CHECKPOINT).stat().st_mtime_ns

    again = alone.run(*command)
    assert again.returncode == 0, again.stderr
    told = set(re.findall(r"score: unit (\d{5}-\d{5}) .* was finished earlier.*: not computed again", again.stderr))
    assert told == set(finished)
    assert f"{UNITS - len(finished)} to compute, {len(finished)} finished earlier" in again.stderr
    assert re.search("train: was finished earlier.*not computed again", again.stderr)
    assert re.search("factors: was finished earlier.*not computed again", again.stderr)
    assert (out / run_directory.CHECKPOINT).stat().st_mtime_ns == checkpoint
    # Results go to standard output, everything else to standard error; a Ray of one's own is no news.
    assert again.stdout.startswith("Table 1: ")
    *_, before, last = again.stdout.splitlines()
    assert before == f"tables: {out}/tables"
    assert last.startswith(f"report: {out}/report/index.html (")
    assert "WARNING" not in again.stderr

    undisturbed = tmp_path / "undisturbed"
    run_named(load_config(MNIST_CONFIG, [*SETTINGS, "cluster.threads_per_worker=2"]), undisturbed)
    found, expected = tables(out), tables(undisturbed)
    assert list(found) == list(expected)
    assert [name for name in expected if not found[name].equals(expected[name])] == []
