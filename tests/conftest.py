"""What tests in many folders need: one Ray for all that run in pytest's own process."""

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

CORES = 2
LOOPBACK = "127.0.0.1"
OBJECT_STORE_BYTES = 200 * 2**20


# Read when ray is imported; without it Ray replaces the loopback address by the machine's own.
os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"


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
