"""Jobs as processes of their own, with a Ray of their own that no other one on the machine sees or is touched by.

Every process that a job starts inherits a mark in its environment; by it they are found, measured and ended.
"""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.support.runs import ROOT

MARK = "RELATIF_TEST_MARK"
POLL_SECONDS = 0.05
OBJECT_STORE_BYTES = 200 * 2**20
NOT_INHERITED = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_JOB_CONFIG_JSON_ENV_VAR", "RAY_TMPDIR")


@dataclass(frozen=True)
class Sandbox:
    """An environment for jobs, with a folder for Ray's files."""

    mark: str
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """The environment: Ray's files in ``folder``, its ports on loopback, a token that is written nowhere."""
        inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        return inherited | {
            MARK: self.mark,
            "RAY_TMPDIR": str(self.folder),
            "RAY_AUTH_TOKEN": self.mark,
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        }

    def start(self, *command: str, streams: IO[str] | int = subprocess.PIPE, **changes: str) -> subprocess.Popen[str]:
        """Start a command in the repository's root; ``changes`` are further variables of its environment."""
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environment | changes,
            stdout=streams,
            stderr=streams,
            text=True,
            start_new_session=True,
        )

    def run(self, *command: str, timeout: float = 120, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        process = self.start(*command, **changes)
        try:
            out, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            raise AssertionError(f"expected {command} to end within {timeout} s; it wrote:\n{out}\n{errors}") from None
        return subprocess.CompletedProcess(command, process.returncode, out, errors)

    def python(self, *arguments: str, timeout: float = 120, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run this Python with arguments."""
        return self.run(sys.executable, *arguments, timeout=timeout, **changes)

    def start_cluster(self, *options: str, **changes: str) -> None:
        """Start a cluster by ``ray start`` on loopback, with free ports in place of those that any other Ray has."""
        head = ("--head", "--node-ip-address=127.0.0.1", "--port=0", f"--object-store-memory={OBJECT_STORE_BYTES}")
        # Else each ``ray start`` hands its workers the same ports, from 10002 on.
        workers = ("--min-worker-port=0", "--max-worker-port=0")
        ports = [f"--{name}={free_port()}" for name in ("ray-client-server-port", "dashboard-agent-listen-port")]
        ended = self.run("ray", "start", *head, *workers, *ports, "--disable-usage-stats", *options, **changes)
        assert ended.returncode == 0, ended.stdout + ended.stderr

    @property
    def address(self) -> str:
        """The address that ``ray start`` left."""
        return (self.folder / "ray/ray_current_cluster").read_text().strip()

    def processes(self) -> list[int]:
        """Return the ids of all living processes that were started in this sandbox, by whatever parent."""
        wanted = f"{MARK}={self.mark}".encode()
        return [pid for pid in _process_ids() if wanted in _environment(pid) and not _is_zombie(pid)]

    def end_processes(self) -> None:
        """End what is left."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), timeout=10)


@contextmanager
def sandbox() -> Iterator[Sandbox]:
    """Make a sandbox; at the end its processes are gone and so is its folder."""
    # Not pytest's folder: the path of a Unix socket has at most 107 bytes.
    made = Sandbox(secrets.token_hex(16), Path(tempfile.mkdtemp(prefix="relatif-")))
    try:
        yield made
    finally:
        made.end_processes()
        shutil.rmtree(made.folder, ignore_errors=True)


def job(name: str, config: Path, out: Path, settings: Sequence[str]) -> list[str]:
    """Return the command line of a job."""
    overrides = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", f"jobs.{name}", "--config", str(config), "--out", str(out), *overrides]


def title(pid: int) -> str:
    """Return how a process calls itself; empty where it has ended."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def wait_until(condition: Callable[[], object], *, timeout: float) -> None:
    """Return as soon as the condition holds; AssertionError where it doesn't in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"expected a condition to hold within {timeout} s, found it did not"
        time.sleep(POLL_SECONDS)


def _process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _environment(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in ("Z", "X")
    return True
