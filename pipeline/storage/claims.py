"""Who may write into a run's directory: numbered claim files, created only where none is, kept alive by a heartbeat.

A driver holds one claim, which it deletes at its end. Whoever publishes a file looks first whether the claim is still
there. A claim is over when its process is known to have ended, or when its heartbeat shows no life for its lease; then
the next number is created, and the old claim is deleted before anything else is written. Clocks of different machines
are never compared: another machine's heartbeat is watched, that of a process beside this one is dated by the time since
the machine was started.
"""

import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from relatif.pipeline.console import say
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.pipeline.storage.store import Store
from relatif.schemas import run_directory
from relatif.schemas.errors import ClaimError, RelatifError

BEATS_PER_LEASE = 6
LOOKS_PER_LEASE = 24
"""How often the heartbeat of another machine is read while it is watched."""

DEFAULT_LEASE_S = 60.0


class Holder(BaseModel):
    """Who holds a claim: a process of a machine, which its start time and the machine's tell from any later one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    token: str
    host: str
    boot: str
    namespace: str
    pid: int
    process_start: str
    since: str
    uptime: float
    lease_s: float

    @property
    def text(self) -> str:
        """Who it is, as errors say it."""
        return f"process {self.pid} on {self.host}, started {self.since}"


@dataclass(frozen=True)
class Claim:
    """A driver's claim on the run at ``url``, the file at ``path``, which holds ``token``."""

    url: str
    path: str
    token: str

    def require(self) -> None:
        """Raise ClaimError where the claim is no longer there: nothing may be published then."""
        store = Store(self.url)
        data = store.find_bytes(self.path)
        if data is not None and self.token.encode() in data:
            return
        numbers = _numbers(store)
        holder = _holder(store, numbers[-1]) if numbers else None
        by = f"it was taken over by {holder.text}" if holder is not None else "it is over"
        raise ClaimError(
            f"expected this run to be the only one that writes to {store.describe()}, found that {by}, as this one "
            f"gave no sign of life for its lease, or has ended; it stops here, and what it had proven stays"
        )


@contextmanager
def claimed(store: Store, lease_s: float = DEFAULT_LEASE_S) -> Iterator[Store]:
    """Claim the run at ``store`` and yield the store that looks at the claim before each publication.

    Raises ClaimError, naming host, process and start of the other, where a living driver holds a claim; nothing is
    written then. Another machine's driver is watched for up to its lease.
    """
    missing = not store.exists("")
    claim = _acquire(store, lease_s)
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(store, claim, lease_s, ended), daemon=True, name="claim")
    beating.start()
    try:
        yield replace(store, claim=claim)
    finally:
        ended.set()
        beating.join(lease_s)
        _release(store, claim, also_run=missing)


def _acquire(store: Store, lease_s: float) -> Claim:
    token = secrets.token_hex(16)
    while True:
        held = _numbers(store)
        for number in held:
            _require_over(store, number)
        number = held[-1] + 1 if held else 1
        claim = Claim(store.url, _file(number), token)
        if not store.create_bytes(claim.path, sealed(_myself(token, lease_s).model_dump())):
            continue  # another driver was quicker: who is it?
        others = [other for other in _numbers(store) if other not in (*held, number)]
        for other in held:
            _delete(store, other)
        if not others:
            return claim
        # One that began when those before had just ended. The higher number gives way; equal ones can't be.
        if min(others) < number:
            _delete(store, number)


def _require_over(store: Store, number: int) -> None:
    """Return where a claim is over or gone; ClaimError where its driver lives."""
    holder = _holder(store, number)
    lives = None if holder is None else _lives(holder)
    if lives is False or not store.exists(_file(number)):
        return
    lease, who = (holder.lease_s, holder.text) if holder is not None else (DEFAULT_LEASE_S, "a driver unknown")
    if lives and holder is not None:
        beat = store.find_bytes(_beat_file(number))
        with suppress(ValueError, IndexError):
            last = max(holder.uptime, float((beat or b"0").split()[0]))
            if _uptime() - last > lease:
                return
    elif _is_silent(store, number, lease, who):
        return
    raise ClaimError(
        f"expected no other run to write to {store.describe()}, found {who}; wait until it has ended, stop it, or "
        f"choose another --out; nothing was written"
    )


def _is_silent(store: Store, number: int, lease: float, who: str) -> bool:
    """Watch the heartbeat of a driver on another machine; return whether it shows no life for its lease, or ends."""
    say(f"{store.describe()} is claimed by {who}: watching for up to {lease:g} s whether that run lives")
    first, started = store.find_bytes(_beat_file(number)), _uptime()
    while _uptime() - started < lease:
        time.sleep(lease / LOOKS_PER_LEASE)
        if not store.exists(_file(number)):
            return True
        if store.find_bytes(_beat_file(number)) != first:
            return False
    return True


def _beat(store: Store, claim: Claim, lease_s: float, ended: threading.Event) -> None:
    """Renew a claim until it is released or lost; where the storage fails, the next beat tries again."""
    number = _number(claim.path)
    while not ended.wait(lease_s / BEATS_PER_LEASE):
        with suppress(RelatifError):
            if store.find_bytes(claim.path) is None:
                return
            store.publish_bytes(_beat_file(number), f"{_uptime():.3f}\n".encode())


def _release(store: Store, claim: Claim, *, also_run: bool) -> None:
    """Delete a claim, and the folders that were made for it, if they are empty. A failure leaves it to its lease."""
    with suppress(RelatifError):
        data = store.find_bytes(claim.path)
        if data is not None and claim.token.encode() in data:
            _delete(store, _number(claim.path))
        store.delete_empty(run_directory.CLAIMS)
        store.delete_empty(run_directory.WORK)
        if also_run:
            store.delete_empty("")


def _numbers(store: Store) -> list[int]:
    """Return the numbers of all claims, in rising order."""
    return [_number(path) for path in store.list(run_directory.CLAIMS, ".json")]


def _number(path: str) -> int:
    return int(path.rpartition("/")[2].partition(".")[0])


def _file(number: int) -> str:
    return f"{run_directory.CLAIMS}/{number:08d}.json"


def _beat_file(number: int) -> str:
    return f"{run_directory.CLAIMS}/{number:08d}.beat"


def _delete(store: Store, number: int) -> None:
    store.delete(_file(number))
    store.delete(_beat_file(number))


def _holder(store: Store, number: int) -> Holder | None:
    """Return who holds a claim, None where it is gone or damaged."""
    data = store.find_bytes(_file(number))
    try:
        return None if data is None else Holder.model_validate(unsealed(data))
    except ValueError:
        return None


def _myself(token: str, lease_s: float) -> Holder:
    return Holder(
        token=token,
        host=socket.gethostname(),
        boot=_boot(),
        namespace=_namespace(),
        pid=os.getpid(),
        process_start=_process_start(os.getpid()) or "",
        since=datetime.now().astimezone().isoformat(timespec="seconds"),
        uptime=_uptime(),
        lease_s=lease_s,
    )


def _lives(holder: Holder) -> bool | None:
    """Return whether a process still exists; None where it is another machine's, or this system can't tell."""
    here = (socket.gethostname(), _boot(), _namespace())
    if (holder.host, holder.boot, holder.namespace) != here or not holder.boot or not holder.process_start:
        return None
    return _process_start(holder.pid) == holder.process_start


def _boot() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _process_start(pid: int) -> str | None:
    """Return when a process started, in ticks since the machine did; None where there is none, or it has ended."""
    with suppress(OSError, IndexError):
        # Behind the name, which may hold spaces: the state is the 3rd field, the start the 22nd.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    return None


def _uptime() -> float:
    """Return seconds since the machine was started, in standby too: the same for all its processes."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
