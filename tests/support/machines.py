"""Clusters of several nodes on one machine, of which nodes and processes can be lost, stopped and added.

``python -m tests.support.machines CORES ...`` starts them, the head first, and obeys commands line by line;
``machines`` does that in a sandbox. A node that is stopped keeps its processes, none of which runs any more.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.processes import OBJECT_STORE_BYTES, Sandbox, sandbox, title

QUICK_HEALTH_CHECKS = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_timeout_ms": 1000,
    "health_check_failure_threshold": 5,
}
"""A stopped node is found to be lost after some 10 seconds; by Ray's defaults after more than a minute."""


@dataclass(frozen=True)
class Machines:
    """Nodes that run in a sandbox."""

    alone: Sandbox
    process: subprocess.Popen[str]
    address: str

    def tell(self, *command: object) -> str:
        """Give a command and return its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(" ".join(map(str, command)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def add(self, cores: int) -> None:
        """Start one more node."""
        self.tell("add", cores)

    def lose(self, *places: int) -> None:
        """End all processes of nodes, by their places from 1."""
        for place in places:
            self.tell("lose", place)

    def stop(self, *places: int) -> None:
        """Stop all processes of nodes, workers too."""
        for place in places:
            for pid in map(int, self.tell("pids", place).split()):
                for each in [pid, *_children(pid)]:
                    with suppress(ProcessLookupError):
                        os.kill(each, signal.SIGSTOP)

    def workers(self, prefix: str) -> list[int]:
        """Return the processes whose name begins so, as Ray names them by what they are at."""
        return [pid for pid in self.alone.processes() if title(pid).startswith(f"ray::{prefix}")]

    def job(self, name: str, config: Path, out: Path, settings: list[str], log: Path) -> subprocess.Popen[str]:
        """Start a job on these nodes, whose lines go to a file."""
        from tests.support.processes import job

        with log.open("w") as lines:
            return self.alone.start(*job(name, config, out, settings), streams=lines, RAY_ADDRESS=self.address)


@contextmanager
def machines(*cores: int, **system: int) -> Iterator[Machines]:
    """Start nodes of so many cores each, the head first, with settings of Ray's own."""
    with sandbox() as alone:
        words = [sys.executable, "-m", "tests.support.machines", json.dumps(system), *map(str, cores)]
        with (alone.folder / "nodes.log").open("w") as log:
            process = subprocess.Popen(
                words, env=alone.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, (alone.folder / "nodes.log").read_text()
        try:
            yield Machines(alone, process, address)
        finally:
            process.kill()
            process.wait()


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    with suppress(OSError):
        below = [int(word) for task in tasks.iterdir() for word in (task / "children").read_text().split()]
        return [each for child in below for each in [child, *_children(child)]]
    return []


def main() -> int:
    """Start nodes and obey."""
    from ray.cluster_utils import Cluster

    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what Ray prints is no answer
    system, first, *others = json.loads(sys.argv[1]), *map(int, sys.argv[2:])
    asked = {"object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(
        initialize_head=True, head_node_args={**asked, "num_cpus": first, "_system_config": system or None}
    )
    nodes = [cluster.head_node, *(cluster.add_node(num_cpus=cores, **asked) for cores in others)]
    print(cluster.address, file=answers, flush=True)
    for line in sys.stdin:
        command, argument = line.split()
        answer = ""
        if command == "add":
            nodes.append(cluster.add_node(num_cpus=int(argument), **asked))
        elif command == "lose":
            cluster.remove_node(nodes[int(argument)], allow_graceful=False)
        elif command == "pids":
            processes = nodes[int(argument)].all_processes.values()
            answer = " ".join(str(each.process.pid) for kind in processes for each in kind)
        print(answer, file=answers, flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
