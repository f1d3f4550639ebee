"""Two drivers on one ``--out``, on the local disk and on S3: one of them writes, and its tables are undisturbed."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from relatif.pipeline.runs.verifying import verify_run
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.reading import load_config
from tests.support.images import write_images
from tests.support.processes import Sandbox, job, sandbox, wait_until
from tests.support.runs import MNIST_CONFIG, run_named
from tests.support.s3 import bucket_at, served
from tests.support.slow import SLOW_TO_READ

pytestmark = pytest.mark.timeout(600)

UNITS, LEASE_S = 10, 2.0
TOGETHER = ("same", "curvature.damping=0.5")
SETTINGS = (
    f"task={SLOW_TO_READ}",
    f"data.train_limit={UNITS * 20}",
    "data.shard_rows=20",
    "score.unit_rows=20",
    "score.top_k=5",
    "score.write_scores=true",
    f"cluster.lease_s={LEASE_S}",
    "cluster.workers=1",
    "cluster.threads_per_worker=1",
    "cluster.local_cpus=2",
    "cluster.object_store_bytes=100000000",
)
Driver = subprocess.Popen[str]
Start = Callable[..., Driver]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=UNITS * 20, rows_per_group=20)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> dict[str, dict[str, bytes]]:
    """The bytes of the tables of undisturbed runs, by the setting that is different."""
    found = {}
    for own in TOGETHER:
        out = tmp_path_factory.mktemp("undisturbed")
        run_named(load_config(MNIST_CONFIG, settings(data, [own])), out)
        found[own] = table_bytes(open_store(out))
    return found


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with served() as address:
        yield address


@pytest.fixture(params=["local", "s3"])
def out(
    request: pytest.FixtureRequest, tmp_path: Path, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "run")
        return
    with bucket_at(endpoint, monkeypatch) as bucket:
        yield f"{bucket}/{tmp_path.name}"


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    """Start drivers, each with a Ray of its own."""
    with ExitStack() as machines:

        def driver(out: str, *own: str) -> Driver:
            alone: Sandbox = machines.enter_context(sandbox())
            return alone.start(*command(out, data, own))

        yield driver


def command(out: str, data: Path, own: Sequence[str]) -> list[str]:
    words = job("run", MNIST_CONFIG, Path("OUT"), settings(data, own))
    return [out if word == "OUT" else word for word in words]


def settings(data: Path, own: Sequence[str]) -> list[str]:
    return [f"data.source={data}", *SETTINGS, *(each for each in own if each != "same")]


def table_bytes(store: Store) -> dict[str, bytes]:
    return {path: store.read_bytes(path) for path in store.walk() if path.startswith(f"{run_directory.TABLES}/")}


def units(out: str) -> int:
    return len(open_store(out).list(run_directory.SCORE_WORK, ".json"))


def ended(driver: Driver, status: int) -> str:
    """Wait until a driver has ended with a status; return its log."""
    _, log = driver.communicate(timeout=120)
    assert driver.returncode == status, log
    assert "Traceback" not in log
    return log


def assert_whole(out: str, expected: dict[str, bytes]) -> None:
    found = table_bytes(open_store(out))
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []
    assert verify_run(out).faults == ()
    assert open_store(out).list(run_directory.CLAIMS) == []


@pytest.mark.parametrize(
    ("out", "own"), [("local", "same"), ("local", TOGETHER[1]), ("s3", TOGETHER[1])], indirect=["out"]
)
def test_of_two_that_begin_together_one_is_refused(
    start: Start, out: str, own: str, undisturbed: dict[str, dict[str, bytes]]
) -> None:
    drivers = {"same": start(out), own if own != "same" else "again": start(out, own)}
    for driver in drivers.values():
        driver.wait(timeout=120)
    logs = {name: driver.communicate()[1] for name, driver in drivers.items()}
    statuses = {name: driver.returncode for name, driver in drivers.items()}
    assert sorted(statuses.values()) == [0, 1], "\n".join(logs.values())
    winner = next(name for name, status in statuses.items() if status == 0)
    (refused,) = (logs[name] for name, status in statuses.items() if status == 1)
    assert f"error: expected no other run to write to {out}, found process {drivers[winner].pid} on " in refused
    assert_whole(out, undisturbed["same" if winner == "again" else winner])


def test_one_that_begins_after_five_units_is_refused_and_follows_the_first_when_that_is_dead(
    start: Start, out: str, undisturbed: dict[str, dict[str, bytes]]
) -> None:
    long = "cluster.lease_s=300"
    first = start(out, long)
    wait_until(lambda: units(out) >= 5 or first.poll() is not None, timeout=100)
    # Held for as long as the second takes to start: it lives, and its lease lasts.
    first.send_signal(signal.SIGSTOP)
    assert f"found process {first.pid} on " in ended(start(out, long, TOGETHER[1]), 1)
    assert units(out) < UNITS
    first.kill()
    first.communicate()
    log = ended(start(out, long), 0)
    assert "watching for up to" not in log, "the dead process is known to be dead"
    assert re.search(r"score: unit \S+ .* was finished earlier, as its manifest proves: not computed again", log)
    assert_whole(out, undisturbed["same"])


def test_one_that_was_stopped_past_its_lease_publishes_nothing_when_it_wakes(
    start: Start, out: str, undisturbed: dict[str, dict[str, bytes]]
) -> None:
    first = start(out)
    wait_until(lambda: units(out) >= 2 or first.poll() is not None, timeout=100)
    first.send_signal(signal.SIGSTOP)
    time.sleep(1.5 * LEASE_S)
    second = start(out)
    wait_until(
        lambda: f"{run_directory.CLAIMS}/00000002.json" in open_store(out).list(run_directory.CLAIMS), timeout=60
    )
    first.send_signal(signal.SIGCONT)
    log = ended(first, 1)
    assert "error: expected this run to be the only one that writes to" in log
    ended(second, 0)
    assert_whole(out, undisturbed["same"])
