"""What the machine has is read from the system, and no more than a container's limit allows."""

import os
from pathlib import Path

import pytest

from relatif.pipeline.preflight import machine
from relatif.pipeline.preflight.machine import free_bytes, memory_bytes, this_machine
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import ClusterConfig


def test_memory_is_that_of_the_system_unless_a_container_has_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_CGROUP_LIMITS", (str(tmp_path / "limit"),))
    (total,) = (
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    assert memory_bytes() == total * 1024
    (tmp_path / "limit").write_text("max\n")
    assert memory_bytes() == total * 1024
    (tmp_path / "limit").write_text("1048576\n")
    assert memory_bytes() == 2**20


def test_cores_are_those_that_a_ray_here_gets() -> None:
    assert this_machine(ClusterConfig()).cpus == os.cpu_count()
    assert this_machine(ClusterConfig(local_cpus=3)).resources.node_cpus == 3


def test_room_is_that_of_the_disk_that_a_folder_will_lie_on(tmp_path: Path) -> None:
    found = free_bytes(open_store(tmp_path / "not/there/yet"))
    assert found is not None
    assert abs(found - os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize) < 2**30
    assert free_bytes(Store("s3://bucket/run")) is None
    assert free_bytes(Store("/proc/run")) is None
