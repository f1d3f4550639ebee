"""What the driver knows of work that was handed out: who is at it, who is silent, who takes too long.

This is the clock of all waiting. A piece of work is started a second time where its worker gives no sign of life, or
takes many times as long as others of its kind; and a run with nobody left to work ends after a while.
"""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar
from uuid import uuid4

import ray

from relatif.pipeline.cluster.failures import lost_too_often
from relatif.pipeline.cluster.nodes import Node, free_text, living_nodes, nodes_with_room, room, room_at_most
from relatif.pipeline.cluster.signs import Sign, read_signs
from relatif.pipeline.console import format_duration, say
from relatif.schemas.errors import ClusterError

Asked = TypeVar("Asked")

LOOK_SECONDS = 1.0
SAY_SECONDS = 30.0
FREE_SECONDS = 30.0
"""How long work may wait beside free cores: Ray asks a node that was stopped for room, and gets no answer.

Longer than a process takes to start on a busy machine."""

FEWEST_OF_A_KIND = 3
"""Pieces of a kind that must have ended before one can be called slow."""

PLACES_SECONDS = 5.0
"""Work that ends sooner is over before anyone could read on which nodes it runs."""


@dataclass(frozen=True)
class Limits:
    """How long is waited for what: seconds, losses of one piece of work, and multiples of the median of its kind.

    ``room_s`` is how long a second start may wait for room before the first, silent one is ended to make some.
    """

    retries: int = 3
    patience_s: float = 300.0
    silence_s: float = 60.0
    overdue: float = 10.0
    shortest_overdue_s: float = 60.0
    room_s: float = 15.0


@dataclass(eq=False)
class Attempt:
    """A piece of work in somebody's hands.

    ``begun`` is None as long as it may still wait for a core. ``allowed_s`` is the silence that it is granted.
    """

    name: str
    kind: str
    reference: Any
    key: str
    threads: int
    heard: float
    allowed_s: float
    begun: float | None = None
    sign: Sign | None = None
    pids: set[int] = field(default_factory=set)
    doubted: float | None = None

    def where(self) -> str:
        """Return where it runs, as messages say it."""
        if self.sign is None:
            return "a worker"
        address = {node.id: node.name for node in living_nodes()}.get(self.sign.node, "a node that is lost")
        return f"process {self.sign.pid} on {address}"


def new_key() -> str:
    """Return a key for signs of life that nobody else has; it begins with the id of this job."""
    return f"{ray.get_runtime_context().get_job_id()}/{uuid4().hex}"


@dataclass
class Watch:
    """Watches over the attempts of one stage, for workers of so many cores and GPUs; ``title`` is what logs call it."""

    title: str
    limits: Limits
    threads: int = 1
    gpus: float = 0
    lasted: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    places: Counter[str] = field(default_factory=Counter)
    clock: Callable[[], float] = time.monotonic
    begun: float = field(init=False)
    alive: float = field(init=False)
    looked: float = -math.inf
    said: float = -math.inf
    nodes_read: float = -math.inf
    nodes: dict[str, Node] = field(default_factory=dict)
    nodes_seen: set[str] = field(default_factory=set)
    room: int = 0
    free_since: float | None = None
    started: int = 0
    asked_anew: float = -math.inf
    times_anew: int = 0

    def __post_init__(self) -> None:
        self.begun = self.alive = self.clock()

    def read_nodes(self) -> None:
        """Read which nodes are there and what finds room on them, at most once in LOOK_SECONDS."""
        now = self.clock()
        if now - self.nodes_read < LOOK_SECONDS:
            return
        self.nodes_read = now
        self.nodes = {node.id: node for node in living_nodes()}
        self.nodes_seen |= self.nodes.keys()
        # What an autoscaler may add counts as room: whoever waits for it is why it adds.
        most = room_at_most(self.threads, self.gpus)
        self.room = max(room(self.nodes.values(), self.threads, self.gpus), most)

    def has_lost(self, node: str) -> bool:
        """Return whether a node was there and is no longer."""
        return node in self.nodes_seen and node not in self.nodes

    def node_to_start_on(self) -> str | None:
        """Return the node on which Ray should start work, in turn; None leaves the choice to Ray.

        Once a node is lost Ray is not trusted with it: where that node was stopped, it still waits for its answers.
        """
        self.read_nodes()
        if not self.nodes or self.nodes_seen == self.nodes.keys():
            return None
        self.started += 1
        places = [node.id for node in self.nodes.values() for _ in range(node.cpus)]
        return places[self.started % len(places)]

    def node_for_second_start(self, first: Attempt) -> str | None:
        """Return another node than the first attempt's, in turn, one with free cores if there is one."""
        others = [node for node in self.nodes if first.sign is None or node != first.sign.node]
        free = nodes_with_room(self.threads, self.gpus)
        places = [node for node in others if node in free] or others
        self.started += 1
        return places[self.started % len(places)] if places else self.node_to_start_on()

    def handed(self, name: str, reference: Any, key: str, *, kind: str = "", silences: int = 0) -> Attempt:
        """Note that work was handed out; ``silences`` is how often it was lost to a worker that fell silent."""
        # Twice as long each time: whoever can't give signs, as it never lets another thread run, ends some time.
        allowed = self.limits.silence_s * 2**silences
        return Attempt(name, kind, reference, key, self.threads, self.clock(), allowed)

    def ended(self, attempt: Attempt) -> None:
        """Note that an attempt gave its result."""
        now = self.clock()
        self.lasted[attempt.kind].append(now - (attempt.begun or attempt.heard))
        self.alive = now

    def moved(self) -> None:
        """Note that something happened: a worker came, or went."""
        self.alive = self.clock()

    def look(self, attempts: Sequence[Attempt]) -> list[Attempt]:
        """Read the signs of all attempts and return those that now need a second start, each once.

        Raises ClusterError where nobody gave a sign for longer than the limits' patience, and where an attempt has
        lost its process too often.
        """
        now = self.clock()
        if now - self.looked < LOOK_SECONDS:
            return []
        self.looked = now
        self.read_nodes()
        signs = read_signs([attempt.key for attempt in attempts])
        for attempt in attempts:
            self._hear(attempt, signs.get(attempt.key), now)
        self._tell_places(attempts, now)
        self._be_patient(attempts, now)
        stuck = self._stuck(attempts, now)
        doubted = [
            attempt
            for attempt in attempts
            if attempt.doubted is None and (self._doubt(attempt, now) or self._doubt_stuck(attempt, stuck, now))
        ]
        for attempt in doubted:
            attempt.doubted = now
        return doubted

    def silent(self, attempt: Attempt) -> bool:
        """Return whether an attempt has begun and then gave no sign of life for too long."""
        return attempt.begun is not None and self.clock() - attempt.heard > attempt.allowed_s

    def without_room(self, attempt: Attempt) -> bool:
        """Return whether an attempt is silent and its second start has had time to find room."""
        waited = 0.0 if attempt.doubted is None else self.clock() - attempt.doubted
        return waited > self.limits.room_s and self.silent(attempt)

    def to_ask_anew(self, asked: Mapping[Asked, float]) -> list[Asked]:
        """Return who was asked too long ago, at the times given, and never began, where nobody is at work.

        A process that was stopped before its first sign looks like one that waits for a core, which loses nothing.
        One that only takes long to start is given twice as long each time.
        """
        now = self.clock()
        if self.asked_anew < self.alive:
            self.times_anew = 0
        allowed = self.limits.silence_s * 2**self.times_anew
        late = [each for each, when in asked.items() if now - when > allowed]
        if not late or now - max(self.alive, self.asked_anew) <= allowed:
            return []
        self.asked_anew, self.times_anew = now, self.times_anew + 1
        waited = format_duration(now - self.alive)
        say(f"{self.title}: no sign of life from anybody for {waited}; what has not begun is asked for anew")
        return late

    def _hear(self, attempt: Attempt, sign: Sign | None, now: float) -> None:
        if sign is None or sign == attempt.sign:
            return
        attempt.begun = now if attempt.begun is None else attempt.begun
        attempt.heard, attempt.sign, self.alive = now, sign, now
        attempt.pids.add(sign.pid)
        # Ray counts losses too, but starts anew without end what was ended for want of memory.
        if len(attempt.pids) > self.limits.retries + 1:
            raise lost_too_often(attempt.name, f"{len(attempt.pids)} processes ended without a result")

    def _stuck(self, attempts: Sequence[Attempt], now: float) -> bool:
        """Return whether there was room for long enough, beside work that waits."""
        waiting = any(attempt.begun is None for attempt in attempts)
        if not waiting or not nodes_with_room(self.threads, self.gpus):
            self.free_since = None
        elif self.free_since is None:
            self.free_since = now
        return self.free_since is not None and now - self.free_since > FREE_SECONDS

    def _doubt_stuck(self, attempt: Attempt, stuck: bool, now: float) -> bool:
        if not stuck or attempt.begun is not None or now - attempt.heard <= FREE_SECONDS:
            return False
        say(f"{self.title}: {attempt.name}: not begun, though cores are free; it is started a second time")
        return True

    def _doubt(self, attempt: Attempt, now: float) -> bool:
        if self.silent(attempt):
            reason = f"no sign of life from {attempt.where()} for {format_duration(now - attempt.heard)}"
        else:
            lasted = self.lasted[attempt.kind]
            if attempt.begun is None or len(lasted) < FEWEST_OF_A_KIND:
                return False
            usual = median(lasted)
            if now - attempt.begun <= max(self.limits.shortest_overdue_s, self.limits.overdue * usual):
                return False
            reason = (
                f"{format_duration(now - attempt.begun)} on {attempt.where()}, others took {format_duration(usual)}"
            )
        say(f"{self.title}: {attempt.name}: {reason}; it is started a second time, and the first result counts")
        return True

    def _tell_places(self, attempts: Sequence[Attempt], now: float) -> None:
        """Name the nodes at work where they have changed."""
        if now - self.begun < PLACES_SECONDS:
            return
        working = [attempt for attempt in attempts if attempt.sign is not None and not self.silent(attempt)]
        at = [attempt.sign.node for attempt in working if attempt.sign is not None]
        places = Counter(self.nodes[node].name for node in at if node in self.nodes)
        if places and places.keys() != self.places.keys():
            listed = ", ".join(f"{count} on {name}" for name, count in sorted(places.items()))
            say(f"{self.title}: {places.total()} worker(s) of {self.threads} core(s): {listed}")
            self.places = places

    def _be_patient(self, attempts: Sequence[Attempt], now: float) -> None:
        """Say every half minute that nobody works; raise ClusterError when that has lasted too long."""
        waited, patience = now - self.alive, self.limits.patience_s
        if waited < min(SAY_SECONDS, patience) or (now - self.said < SAY_SECONDS and waited < patience):
            return
        self.said = now
        own = sum(attempt.threads for attempt in attempts if attempt.begun is not None)
        wanted = f"{self.threads} core(s)" + (f" and {self.gpus:g} GPU(s)" if self.gpus else "") + " on one node"
        found = free_text(own)
        silent = "".join(f"; silent: {each.name}, {each.where()}" for each in attempts if self.silent(each))
        if waited >= patience:
            raise ClusterError(
                f"expected a worker for {self.title}, found none in {format_duration(waited)}: it takes {wanted}, and "
                f"{found}{silent}; add nodes, wait for other jobs to end, or raise cluster.patience_s (now "
                f"{patience:g}), then run the same command again: finished units are kept"
            )
        left = format_duration(patience - waited)
        say(f"{self.title}: waits for {wanted} since {format_duration(waited)}: {found}{silent}; gives up in {left}")
