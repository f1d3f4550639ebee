"""Durable work: what is proven is not done again, what is done is proven, and a proof holds only for its digest."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from relatif.pipeline.cluster.session import Cluster, Resources
from relatif.pipeline.devices import Worker
from relatif.pipeline.runs.durable import Made, Piece, complete, look_up, prove, proven
from relatif.pipeline.storage.manifests import read_manifest
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.config import ClusterConfig
from relatif.schemas.errors import DataError

CLUSTER = Cluster(ClusterConfig(threads_per_worker=1), Resources(nodes=1, cpus=2, gpus=0, node_cpus=2, address=""))


def pieces(count: int, digest: str = "today") -> list[Piece]:
    return [Piece(f"piece {number}", f"work/{number}.json", digest) for number in range(count)]


class Writer:
    """Writes a file for each piece, which tells how often it was written; ``broken`` names pieces that fail."""

    def __init__(self, store: Store, broken: tuple[str, ...] = ()) -> None:
        self.store, self.broken = store, broken

    def __call__(self, worker: Worker) -> Callable[[Piece], Made]:
        assert worker == Worker(1, "cpu")
        return partial(write, self.store, self.broken)


def write(store: Store, broken: tuple[str, ...], piece: Piece) -> Made:
    if piece.name in broken:
        raise DataError(f"expected {piece.name} to be whole, found it broken; write it again")
    path = f"out/{piece.name[-1]}"
    before = store.read_bytes(path) if store.exists(path) else b""
    return Made((store.publish_bytes(path, before + b"x"),), {"largest_residual": "0.5"})


def test_a_unit_is_proven_by_what_it_left(tmp_path: Path) -> None:
    store, (piece,) = open_store(tmp_path), pieces(1)
    assert proven(store, piece) is None

    proof = prove(store, piece, partial(write, store, (), piece))

    assert (proof.work, proof.digest, proof.facts) == ("piece 0", "today", {"largest_residual": "0.5"})
    assert [output.path for output in proof.outputs] == ["out/0"]
    assert proof.seconds >= 0
    assert proven(store, piece) == read_manifest(store, piece.manifest) == proof
    assert proven(store, Piece("piece 0", piece.manifest, "tomorrow")) is None
    (tmp_path / "out/0").unlink()
    assert proven(store, piece) is None


def test_work_that_fails_leaves_no_proof(tmp_path: Path) -> None:
    store, (piece,) = open_store(tmp_path), pieces(1)
    with pytest.raises(DataError, match="expected piece 0 to be whole"):
        prove(store, piece, partial(write, store, ("piece 0",), piece))
    assert not (tmp_path / piece.manifest).exists()


def test_what_was_finished_is_told_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, (first, second) = open_store(tmp_path), pieces(2)
    prove(store, second, partial(write, store, (), second))

    found = look_up(store, [first, second], tell="stage")

    assert found.pending == (first,)
    log = capsys.readouterr().err
    assert "stage: piece 1 was finished earlier, as its manifest proves: not computed again" in log
    assert log.count("\n") == 1


@pytest.mark.usefixtures("local_ray")
def test_only_what_is_missing_is_run_and_the_proofs_of_all_come_in_order(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, units = open_store(tmp_path), pieces(4)
    with pytest.raises(DataError, match="expected piece 2 to be whole, found it broken"):
        complete(look_up(store, units), Writer(store, ("piece 2",)), CLUSTER, title="stage", most_workers=1)
    assert len(look_up(store, units).proofs) == 2

    capsys.readouterr()
    proofs = complete(look_up(store, units), Writer(store), CLUSTER, title="stage", counted="pieces")

    assert [proof.work for proof in proofs] == [unit.name for unit in units]
    assert [(tmp_path / f"out/{number}").read_bytes() for number in range(4)] == [b"x"] * 4
    log = capsys.readouterr().err
    assert "stage: begins, 2/4 pieces done" in log
    assert "stage: finished, 4/4 pieces" in log
    # Without anything to run no actor is started.
    assert complete(look_up(store, units), Writer(store, tuple(u.name for u in units)), CLUSTER, title="a") == proofs
