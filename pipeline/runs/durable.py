"""Durable work: units with a digest. What is proven is skipped, the rest is run, and what is done is proven.

This is the only place that times a unit, makes its manifest and publishes it. A proof is written last: a unit
without one is not finished, whatever files it left.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from relatif.pipeline.cluster.pool import Build, Work, run_units
from relatif.pipeline.cluster.session import Cluster
from relatif.pipeline.console import progress, say
from relatif.pipeline.devices import Worker
from relatif.pipeline.storage.manifests import finished, publish_manifest
from relatif.pipeline.storage.store import Store
from relatif.schemas.manifest import FileReceipt, Manifest


class Unit(Protocol):
    """A piece of work: what logs call it, the path of its proof, and the digest of all that its result depends on."""

    @property
    def name(self) -> str:
        """Return the name."""
        ...

    @property
    def manifest(self) -> str:
        """Return the path, relative to the store."""
        ...

    @property
    def digest(self) -> str:
        """Return the digest."""
        ...


@dataclass(frozen=True)
class Piece:
    """A unit that is nothing but its name, path and digest."""

    name: str
    manifest: str
    digest: str


@dataclass(frozen=True)
class Made:
    """What a unit left: receipts of its files, and facts that its proof keeps."""

    outputs: tuple[FileReceipt, ...]
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Origin:
    """What a stage was made from, as its proof tells: settings, and the hashes of what the stages before it left."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    made_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


U = TypeVar("U", bound=Unit)

LOOKING_UP = 16
"""Units whose proofs are read at once."""

_UNTOLD = Origin()


@dataclass(frozen=True)
class Units(Generic[U]):
    """Units in order, with the proofs that were found, by the units' manifests."""

    store: Store
    all: tuple[U, ...]
    proofs: Mapping[str, Manifest]

    @property
    def pending(self) -> tuple[U, ...]:
        """The units without a proof."""
        return tuple(unit for unit in self.all if unit.manifest not in self.proofs)


def proven(store: Store, unit: Unit) -> Manifest | None:
    """Return the proof of a unit, or None where it is missing, made for something else, or an output is not whole.

    A log line names each file that is damaged.
    """
    return finished(store, unit.manifest, unit.digest, damaged=lambda fault: say(f"{unit.name}: {fault}: made again"))


def prove(store: Store, unit: Unit, make: Callable[[], Made], origin: Origin = _UNTOLD) -> Manifest:
    """Do a unit's work and publish its proof."""
    started = time.monotonic()
    made = make()
    proof = Manifest(
        work=unit.name,
        digest=unit.digest,
        outputs=made.outputs,
        seconds=round(time.monotonic() - started, 3),
        facts=dict(made.facts),
        settings=dict(origin.settings),
        made_from=dict(origin.made_from),
        claim=None if store.claim is None else store.claim.token,
        path=unit.manifest,
    )
    # Last: if the process dies before, the unit has no proof and is done again.
    publish_manifest(store, unit.manifest, proof)
    return proof


def look_up(store: Store, units: Sequence[U], *, tell: str | None = None) -> Units[U]:
    """Return units with the proofs that are there; ``tell`` names the stage in a log line for each of those.

    The files of several units are hashed at once.
    """
    proofs = {}
    with ThreadPoolExecutor(LOOKING_UP) as pool:
        found = list(pool.map(lambda unit: proven(store, unit), units))
    for unit, proof in zip(units, found, strict=True):
        if proof is not None:
            proofs[unit.manifest] = proof
            if tell is not None:
                say(f"{tell}: {unit.name} was finished earlier, as its manifest proves: not computed again")
    return Units(store, tuple(units), proofs)


def complete(
    units: Units[U],
    build: Build[U, Made],
    cluster: Cluster,
    *,
    title: str,
    counted: str = "units",
    most_workers: int | None = None,
) -> list[Manifest]:
    """Run the pending units on the cluster's workers and return the proofs of all, in the units' order.

    ``build(worker)`` loads in an actor what computes a unit. ``counted`` is the plural of what progress counts.
    ``most_workers`` limits the actors. Raises what a unit raises, and ClusterError where one is lost too often.
    """
    pending, proofs = units.pending, dict(units.proofs)
    # More actors than pending units would find nothing to do.
    shape = cluster.workers(min(len(pending), most_workers or len(pending)))
    with progress(title, len(units.all), unit=counted, done=len(units.all) - len(pending)) as shown:

        def done(receipt: tuple[str, Manifest]) -> None:
            # Receipts alone come back to the driver; the files are in storage by now.
            manifest, proof = receipt
            proofs[manifest] = proof
            shown.advance(note=_note(proof))

        def find(unit: U) -> tuple[str, Manifest] | None:
            # What a worker proved before it was lost, or fell silent, is not done again.
            proof = proven(units.store, unit)
            return None if proof is None else (unit.manifest, proof)

        work = Work(Proving(units.store, build), pending, title, partial(_label, title), find)
        run_units(work, shape, done=done, limits=cluster.limits, shown=shown)
    return [proofs[unit.manifest] for unit in units.all]


@dataclass(frozen=True)
class Proving:
    """Wraps what builds a unit's computation, so that each unit is proven where it was computed.

    A driver that is lost then loses no finished unit.
    """

    store: Store
    build: Build[Any, Made]

    def __call__(self, worker: Worker) -> Callable[[Unit], tuple[str, Manifest]]:
        """Load what computes units, in an actor."""
        return partial(_proven_where_computed, self.store, self.build(worker))


def _proven_where_computed(store: Store, compute: Callable[[Unit], Made], unit: Unit) -> tuple[str, Manifest]:
    return unit.manifest, prove(store, unit, partial(compute, unit))


def _label(title: str, unit: Unit) -> str:
    """Return a unit's name with its stage's: ``score 00000-00019`` of the unit ``unit 00000-00019``."""
    return unit.name if unit.name.startswith(title) else f"{title} {unit.name.removeprefix('unit ')}"


def _note(proof: Manifest) -> str:
    facts = "".join(f", {name.replace('_', ' ')} {value}" for name, value in proof.facts.items())
    return f"{proof.work} in {proof.seconds:.1f} s{facts}"
