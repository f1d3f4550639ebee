"""What tests in many folders need: one Ray for all that run in one process of pytest, and marks by what a test uses."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hypothesis
import pytest

CORES = 2
LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 200 * 2**20


MARKED_FOLDERS = ("cluster", "faults")
"""Folders below this one whose tests carry their name as a mark."""

RAY_FIXTURES = {"local_ray", "alone", "cluster"}
"""Fixtures that start a Ray: the one below, and the machines of their own that some files make."""

# Every test has a time limit of its own (pyproject.toml); an example may take long where two processes share the cores.
hypothesis.settings.register_profile("tests", deadline=None)
hypothesis.settings.load_profile("tests")
# make fuzz: many examples, whose files are written anew into one folder.
EVERY_CHECK = list(hypothesis.HealthCheck)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=300, suppress_health_check=EVERY_CHECK)

# Read when ray is imported; without it Ray replaces the loopback address by the machine's own.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
# As the pipeline's own session does: it tells every error of a task itself.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of clusters, of faults, and what needs a Ray, which ``make quick`` leaves out; put the last first.

    Files that take long are then begun before those that take no time, so that two processes end together.
    """
    for item in items:
        if item.path.parent.name in MARKED_FOLDERS:
            item.add_marker(item.path.parent.name)
        if RAY_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.ray)
    first = {item.path for item in items if item.get_closest_marker("ray")}
    items.sort(key=lambda item: item.path not in first)


@pytest.fixture(autouse=True)
def no_ray_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse a Ray that a test starts unsaid: each takes seconds, and ``make quick`` could not leave it out."""
    if "ray" in sys.modules and request.node.get_closest_marker("ray") is None:
        monkeypatch.setattr("ray.init", _refused)


def _refused(*_: object, **__: object) -> None:
    pytest.fail("expected the fixture local_ray of a test that uses Ray, found none; name it")


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two cores on loopback, which the pipeline's own session then joins."""
    import ray

    # Workers find test modules by PYTHONPATH, wherever pytest was started.
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"}
    with mock.patch.dict(os.environ, environment):
        ray.init(
            address="local",
            num_cpus=CORES,
            object_store_memory=OBJECT_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=LOOPBACK,
        )
    yield
    ray.shutdown()
