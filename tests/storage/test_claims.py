"""One driver writes at a time: claims are made once, kept while their driver lives, and looked at before writing."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from relatif.pipeline.storage import claims
from relatif.pipeline.storage.claims import claimed
from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas import run_directory
from relatif.schemas.errors import ClaimError
from tests.storage.test_publication import PlainRemote
from tests.support.processes import wait_until
from tests.support.runs import ROOT, file_bytes

LEASE = 0.6
FIRST = f"{run_directory.CLAIMS}/00000001.json"

HOLD = """
import sys, time
from relatif.pipeline.storage.claims import claimed
from relatif.pipeline.storage.store import open_store
with claimed(open_store(sys.argv[1]), float(sys.argv[2])) as store:
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=["local", "memory", "plain"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    fsspec.register_implementation("plainremote", PlainRemote, clobber=True)
    urls = {"local": str(tmp_path / "run"), "memory": f"memory://{tmp_path.name}", "plain": f"plainremote://{tmp_path}"}
    yield open_store(urls[request.param])
    PlainRemote.clear_instance_cache()


def hold(out: Path, lease: float = 60.0) -> subprocess.Popen[str]:
    """Start a process that holds a claim."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out), str(lease)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def elsewhere(store: Store, **changes: object) -> None:
    """Make the first claim one of a driver on another machine."""
    content = unsealed(store.read_bytes(FIRST))
    store.publish_bytes(FIRST, sealed({**content, "host": "another", **changes}))


def test_a_second_writer_is_refused_and_touches_nothing(store: Store) -> None:
    with claimed(store) as held:
        held.publish_bytes("a", b"1")
        with pytest.raises(ClaimError, match=rf"found process {os.getpid()} on .*, started 20\d\d-.*; wait until"):
            claimed(store).__enter__()
        held.child("below").publish_bytes("b", b"2")
        assert store.list(run_directory.CLAIMS, ".json") == [FIRST]
    assert store.list(run_directory.CLAIMS) == []
    with claimed(store) as again:
        again.delete("a")
    assert store.read_bytes("below/b") == b"2"


def test_a_claim_leaves_no_folder_behind(tmp_path: Path) -> None:
    with claimed(open_store(tmp_path / "run")):
        assert file_bytes(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run/work").mkdir(parents=True)
    (tmp_path / "run/work/a").touch()
    with claimed(open_store(tmp_path / "run")):
        pass
    assert list((tmp_path / "run/work").iterdir()) == [tmp_path / "run/work/a"]


def test_who_began_at_the_same_moment_is_refused_but_one(store: Store) -> None:
    start, outcomes = threading.Barrier(6), []

    def begin() -> None:
        start.wait()
        try:
            with claimed(store):
                outcomes.append("held")
                time.sleep(0.3)
        except ClaimError:
            outcomes.append("refused")

    threads = [threading.Thread(target=begin) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if store.creates_exclusively:
        assert sorted(outcomes) == ["held"] + 5 * ["refused"]
    assert store.list(run_directory.CLAIMS) == []


def test_a_dead_driver_is_followed_at_once(tmp_path: Path) -> None:
    process = hold(tmp_path)
    with pytest.raises(ClaimError, match=f"found process {process.pid} on "):
        claimed(open_store(tmp_path)).__enter__()
    process.kill()
    process.wait()
    started = time.monotonic()
    with claimed(open_store(tmp_path)) as held:
        held.publish_bytes("a", b"1")
        assert held.list(run_directory.CLAIMS, ".json") == [f"{run_directory.CLAIMS}/00000002.json"]
    assert time.monotonic() - started < 5, "its lease is a minute"


def test_a_stopped_driver_loses_its_claim_after_its_lease(tmp_path: Path) -> None:
    process = hold(tmp_path, LEASE)
    time.sleep(2 * LEASE)
    with pytest.raises(ClaimError):
        claimed(open_store(tmp_path)).__enter__()  # it lives, and renews its claim
    os.kill(process.pid, 19)
    time.sleep(1.5 * LEASE)
    try:
        with claimed(open_store(tmp_path), LEASE):
            os.kill(process.pid, 18)
            time.sleep(LEASE)
            assert not (tmp_path / FIRST).exists(), "who wakes does not take it back"
    finally:
        process.kill()
        process.wait()


def test_who_lost_the_claim_publishes_and_deletes_nothing(store: Store) -> None:
    taken = rf"it was taken over by process {os.getpid()} on .*; it stops here"
    with claimed(store, LEASE) as first:
        first.publish_bytes("a", b"1")
        # Its driver is declared dead, as if it had been stopped.
        elsewhere(store, host=unsealed(store.read_bytes(FIRST))["host"], process_start="0")
        with claimed(store) as second:
            for late in (lambda: first.publish_bytes("a", b"late"), lambda: first.delete("a")):
                with pytest.raises(ClaimError, match=taken):
                    late()
            second.publish_bytes("b", b"2")
        with pytest.raises(ClaimError, match="found that it is over"):
            first.child("c").publish_bytes("c", b"3")
    assert store.read_bytes("a") == b"1"
    assert not store.exists("c/c")


def test_a_living_driver_of_another_machine_is_seen_by_its_heartbeat(
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    with claimed(store, LEASE):
        elsewhere(store)
        with pytest.raises(ClaimError, match=r"found process .* on another"):
            claimed(store).__enter__()
    assert "is claimed by process" in capsys.readouterr().err


@pytest.mark.parametrize("damaged", [False, True])
def test_a_silent_driver_of_another_machine_is_followed_after_its_lease(
    store: Store, damaged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "DEFAULT_LEASE_S", LEASE)
    monkeypatch.setattr(claims, "_beat", lambda *_: None)
    with claimed(store, LEASE):
        if damaged:
            store.publish_bytes(FIRST, b"{}")
        else:
            # Whatever its clock says.
            elsewhere(store, uptime=1e12, since="2999-01-01")
        started = time.monotonic()
        with claimed(store, LEASE):
            assert time.monotonic() - started > 0.9 * LEASE


def test_a_claim_travels_with_the_store(tmp_path: Path) -> None:
    import pickle

    with claimed(open_store(tmp_path)) as held:
        sent = pickle.loads(pickle.dumps(held.child("tables")))
        assert sent.claim == held.claim
        assert held.claim is not None
        assert held.claim.token not in repr(sent)
        sent.publish_bytes("a", b"1")
        assert replace(sent, claim=None) == open_store(tmp_path / "tables")
    with pytest.raises(ClaimError):
        sent.publish_bytes("a", b"2")
    wait_until(lambda: not any(thread.name == "claim" for thread in threading.enumerate()), timeout=5)
