"""Actors that work through units: receipts come back, results go to storage.

A unit is given to an actor that has answered, never to one that may still be placed. Whoever is lost, falls silent or
takes too long costs at most the unit that it was in; whoever finds no unit left gives its cores back.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol, TypeVar

import ray
import torch
from ray.exceptions import RayError, RayTaskError

from relatif.pipeline.cluster.attempts import Attempt, Limits, Watch, new_key
from relatif.pipeline.cluster.failures import explained, lost_too_often, never_began, one_line
from relatif.pipeline.cluster.session import WorkerShape
from relatif.pipeline.cluster.signs import Signs
from relatif.pipeline.cluster.tasks import TICK_SECONDS, Telling, gather, submit
from relatif.pipeline.console import QUIET, Progress, say
from relatif.pipeline.devices import Tell, Worker, device_for

Unit_contra = TypeVar("Unit_contra", contravariant=True)
Receipt_co = TypeVar("Receipt_co", covariant=True)


class Build(Protocol[Unit_contra, Receipt_co]):
    """Makes the function that computes units, inside the actor that will call it."""

    def __call__(self, worker: Worker) -> Callable[[Unit_contra], Receipt_co]:
        """Load what every unit needs."""
        ...


def _not_found(_: Any) -> None:
    """Find no receipt."""


@dataclass(frozen=True)
class Work:
    """What is to be done: units, and ``build(worker)``, which runs once in each actor and returns what computes one.

    ``title`` and ``name(unit)`` are what logs, errors and Ray call the whole and a unit. ``find(unit)`` returns the
    receipt of a unit whose result lies in storage, whoever left it there, or None.
    """

    build: Build[Any, Any]
    units: Sequence[Any]
    title: str = "work"
    name: Callable[[Any], str] = str
    find: Callable[[Any], Any] = _not_found


def run_units(
    work: Work,
    shape: WorkerShape,
    *,
    done: Callable[[Any], None],
    limits: Limits | None = None,
    shown: Progress = QUIET,
) -> None:
    """Run every unit on one of ``shape.count`` actors, each with one unit in hand; ``done`` gets each receipt once.

    A single unit runs as a task. Up to ``shape.most`` actors are used where nodes join.

    An actor that is lost is replaced, and its unit repeated; a unit that loses its actor more often than the limits
    allow ends the work with a ClusterError. An error that a unit raises is final.
    """
    if not work.units:
        return
    limits = limits or Limits()
    worker = Worker(shape.threads, device_for(shape.gpus))
    if len(work.units) == 1:
        # A task finds a process that is there already; an actor's own takes seconds to start.
        (unit,) = work.units
        asked = partial(submit, threads=shape.threads, gpus=shape.gpus, retries=limits.retries)
        task = asked(Telling(_run_one), work.build, worker, unit, name=work.name(unit))
        task.find = lambda: work.find(unit)
        done(gather([task], title=work.title, limits=limits, shown=shown)[0])
        return
    pool = _Pool(work, worker, shape, Watch(work.title, limits, shape.threads, shape.gpus), done)
    try:
        pool.run(shown)
    finally:
        # Killed, not only dropped: an error's traceback would keep the actors, and with them their cores.
        for hand in list(pool.hands):
            pool.drop(hand)


@dataclass(eq=False)
class _Hand:
    """An actor: what it was asked for last, the node once it has answered, and the unit in hand, by its place.

    ``since`` is when it was asked for its node.
    """

    actor: Any
    asked: Any
    since: float
    node: str | None = None
    unit: int | None = None
    attempt: Attempt | None = None


@dataclass
class _Pool:
    """The actors of one piece of work, and who does what."""

    work: Work
    worker: Worker
    shape: WorkerShape
    watch: Watch
    done: Callable[[Any], None]
    hands: list[_Hand] = field(default_factory=list)
    waiting: deque[int] = field(default_factory=deque)
    finished: set[int] = field(default_factory=set)
    again: set[int] = field(default_factory=set)
    losses: Counter[int] = field(default_factory=Counter)
    silences: Counter[int] = field(default_factory=Counter)
    number: int = 0
    unborn: int = 0

    def run(self, shown: Progress) -> None:
        """Hand out units until all have a receipt."""
        self.waiting.extend(range(len(self.work.units)))
        while len(self.finished) < len(self.work.units):
            self.staff()
            self.hand_out()
            asked = {hand.asked: hand for hand in self.hands if hand.node is None or hand.attempt is not None}
            ready, _ = ray.wait(list(asked), num_returns=1, timeout=TICK_SECONDS) if asked else ([], [])
            for reference in ready:
                self.take(asked[reference])
            self.examine()
            shown.tick()

    def staff(self) -> None:
        """Ask for as many actors as there are units and room for; let those go that find no unit."""
        trusted = [hand for hand in self.hands if not self.suspected(hand)]
        free = [hand for hand in trusted if hand.attempt is None]
        self.watch.read_nodes()
        most = max(1, min(self.watch.room, self.shape.most or self.shape.count))
        wanted = min(len(self.waiting), most - (len(trusted) - len(free)))
        # Those that have answered stay longest.
        for hand in sorted(free, key=lambda hand: hand.node is None)[max(0, wanted) :]:
            self.drop(hand)
        for _ in range(wanted - len(free)):
            self.start()

    def start(self) -> None:
        """Ask Ray for one more actor; it gets a unit when it has answered."""
        self.number += 1
        actor_class: Any = ray.remote(_Actor)
        actor = actor_class.options(
            name=f"{self.work.title} worker {self.number} {new_key()[:8]}",
            num_cpus=self.shape.threads,
            num_gpus=self.shape.gpus,
            # An actor that Ray would place again, some time, must not keep a unit until then.
            max_restarts=0,
            scheduling_strategy="SPREAD",
        ).remote(self.work.build, self.worker)
        asked = actor.node.options(name=f"{self.work.title} begins").remote()
        self.hands.append(_Hand(actor, asked, self.watch.clock()))

    def drop(self, hand: _Hand) -> None:
        """Let an actor go; Ray ends its process even if it was stopped."""
        self.hands.remove(hand)
        ray.kill(hand.actor)

    def hand_out(self) -> None:
        """Give each actor that has answered and is free a unit that waits."""
        for hand in self.hands:
            if hand.node is None or hand.attempt is not None or not self.waiting:
                continue
            place, key = self.waiting.popleft(), new_key()
            name = self.work.name(self.work.units[place])
            hand.asked = hand.actor.run.options(name=name).remote(key, self.work.units[place])
            hand.unit = place
            hand.attempt = self.watch.handed(name, hand.asked, key, silences=self.silences[place])
            # It is an actor's only call, so it begins at once.
            hand.attempt.begun = hand.attempt.heard

    def take(self, hand: _Hand) -> None:
        """Take what an actor answers: its node, a receipt, or that it is lost."""
        if hand not in self.hands:  # let go while answers were taken
            return
        try:
            answer = ray.get(hand.asked)
        except RayTaskError as error:
            raise explained(error, hand.attempt.name if hand.attempt else self.work.title) from error
        except RayError as error:
            self.lose(hand, error)
            return
        if hand.attempt is None:
            hand.node, self.unborn = answer, 0
            self.watch.moved()
            return
        self.watch.ended(hand.attempt)
        place, hand.unit, hand.attempt = hand.unit, None, None
        self.finish(place, answer)

    def finish(self, place: int | None, receipt: Any) -> None:
        """Count a unit's first receipt, and let go who else is at that unit."""
        if place is None or place in self.finished:
            return
        self.finished.add(place)
        if place in self.again and place in self.waiting:
            self.waiting.remove(place)
        for hand in [hand for hand in self.hands if hand.unit == place]:
            self.drop(hand)
        self.done(receipt)

    def lose(self, hand: _Hand, reason: object) -> None:
        """Let a lost actor go; its unit is repeated, unless its result is found or somebody else is at it."""
        self.drop(hand)
        place = hand.unit
        if place is None:
            self.unborn += 1
            if isinstance(reason, RayError) and (self.unborn > self.watch.limits.retries or never_began(reason)):
                raise explained(reason, f"a worker of {self.work.title}")
            return
        self.repeat(place)
        if place in self.finished:
            return
        self.losses[place] += 1
        name = self.work.name(self.work.units[place])
        if self.losses[place] > self.watch.limits.retries:
            raise lost_too_often(name, reason)
        say(f"{self.work.title}: the worker of {name} was lost, which is repeated ({one_line(reason)})")

    def repeat(self, place: int) -> None:
        """Let a unit wait for another actor, unless its result is found or somebody alive is at it."""
        found = self.work.find(self.work.units[place])
        if found is not None:
            self.finish(place, found)
            return
        at_it = any(hand.unit == place and not self.suspected(hand) for hand in self.hands)
        if place not in self.waiting and not at_it:
            self.again.add(place)
            self.waiting.appendleft(place)

    def suspected(self, hand: _Hand) -> bool:
        """Whether an actor's unit was handed to another as well."""
        return hand.attempt is not None and hand.attempt.doubted is not None

    def examine(self) -> None:
        """Look for signs of life; drop who was on a node that is lost, and repeat what is silent or slow."""
        attempts = {hand.attempt: hand for hand in self.hands if hand.attempt is not None}
        doubted = self.watch.look(list(attempts))
        for attempt in doubted:
            place = attempts[attempt].unit
            if place is not None and attempts[attempt] in self.hands:
                self.silences[place] += self.watch.silent(attempt)
                self.repeat(place)
        for hand in list(self.hands):
            if hand not in self.hands or hand.node is None:
                continue
            if self.watch.has_lost(hand.node):
                self.lose(hand, "its node was lost")
            elif hand.attempt is not None and hand.unit in self.waiting and self.watch.without_room(hand.attempt):
                self.lose(hand, "no sign of life, and no room for a second start beside it")
        for hand in self.watch.to_ask_anew({hand: hand.since for hand in self.hands if hand.node is None}):
            self.drop(hand)


def _run_one(tell: Tell, build: Build[Any, Any], worker: Worker, unit: Any) -> Any:
    return build(replace(worker, tell=tell))(unit)


class _Actor:
    """Builds with its first unit, not in its constructor: Ray takes an error there for the loss of the actor."""

    def __init__(self, build: Build[Any, Any], worker: Worker) -> None:
        self._signs = Signs()
        self._build, self._worker = build, replace(worker, tell=self._signs.tell)
        self._run: Callable[[Any], Any] | None = None

    def node(self) -> str:
        """Return the id of the node that this actor is on."""
        found: str = ray.get_runtime_context().get_node_id()
        return found

    def run(self, key: str, unit: Any) -> Any:
        # One core for each call of torch: units spread over a pool of threads, whose size changes no result.
        torch.set_num_threads(1)
        with self._signs.during(key):
            if self._run is None:
                self._run = self._build(self._worker)
            return self._run(unit)
