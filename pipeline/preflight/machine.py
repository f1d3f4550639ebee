"""What this machine has: cores, GPUs, memory, and room on a disk."""

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.storage.store import Store
from relatif.schemas.config import ClusterConfig

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True)
class Machine:
    """Cores that a Ray started here gets, GPUs, and bytes of memory."""

    cpus: int
    gpus: int
    memory: int

    @property
    def resources(self) -> Resources:
        """The machine as a cluster of one node."""
        return Resources(nodes=1, cpus=self.cpus, gpus=self.gpus, node_cpus=self.cpus, address="")


def this_machine(config: ClusterConfig) -> Machine:
    """Return what this machine has, as far as a Ray that is started here with these settings may use it."""
    return Machine(config.local_cpus or os.cpu_count() or 1, torch.cuda.device_count(), memory_bytes())


def memory_bytes() -> int:
    """Return this machine's memory, or less where a container's limit is lower."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # no such file, or "max"
            found = min(found, int(Path(path).read_text()))
    return found


def free_bytes(store: Store) -> int | None:
    """Return the free room on the disk of a local store; None elsewhere, and for what is no disk, such as /proc."""
    if "://" in store.url:
        return None
    folder = Path(store.url)
    there = next(path for path in (folder, *folder.parents) if path.exists())
    usage = shutil.disk_usage(there)
    return usage.free if usage.total else None
