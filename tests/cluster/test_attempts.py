"""The clock of waiting, set by hand: who is silent, who takes too long, and when a run gives up."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from relatif.pipeline.cluster import attempts
from relatif.pipeline.cluster.attempts import Attempt, Limits, Watch
from relatif.pipeline.cluster.nodes import Node
from relatif.pipeline.cluster.signs import Sign
from relatif.schemas.errors import ClusterError

LIMITS = Limits(retries=1, patience_s=300, silence_s=60, overdue=10, shortest_overdue_s=60)
NODES = (Node("a" * 20, "10.0.0.1", 4, 0), Node("b" * 20, "10.0.0.2", 2, 0))


@dataclass
class World:
    """Seconds, signs and nodes as they are set by a test."""

    seconds: float = 1000.0
    signs: dict[str, Sign] | None = None
    nodes: tuple[Node, ...] = NODES
    free: frozenset[str] = frozenset()

    def watch(self) -> Watch:
        return Watch("score", LIMITS, threads=2, clock=lambda: self.seconds)

    def sign(self, key: str, *, pid: int = 7, node: str = "a" * 20) -> None:
        count = self.signs[key].count if self.signs and key in self.signs else 0
        self.signs = {**(self.signs or {}), key: Sign(count + 1, node, pid, None, "")}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = World()
    monkeypatch.setattr(
        attempts, "read_signs", lambda keys: {key: made.signs[key] for key in keys if key in made.signs}
    )
    monkeypatch.setattr(attempts, "living_nodes", lambda: made.nodes)
    monkeypatch.setattr(attempts, "room_at_most", lambda threads, gpus: 0)
    monkeypatch.setattr(attempts, "nodes_with_room", lambda threads, gpus: made.free)
    monkeypatch.setattr(attempts, "free_text", lambda own: f"the cluster has 6 core(s), {6 - own} held by others")
    made.signs = {}
    return made


def pass_time(world: World, watch: Watch, hands: list[Attempt], seconds: int, *alive: str) -> list[Attempt]:
    """Let seconds pass in which some give signs; return who was doubted meanwhile."""
    doubted = []
    for _ in range(seconds):
        world.seconds += 1
        for key in alive:
            world.sign(key)
        doubted += watch.look(hands)
    return doubted


def test_whoever_gives_signs_is_never_doubted(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    assert pass_time(world, watch, hands, 2000, "one") == []
    assert not watch.silent(hands[0])


def test_whoever_has_begun_and_is_silent_for_a_minute_is_doubted_once(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = world.watch()
    first, second = (watch.handed(f"unit {key}", "r", key) for key in ("one", "two"))
    assert pass_time(world, watch, [first, second], 5, "one", "two") == []
    assert pass_time(world, watch, [first, second], 60, "two") == []
    assert pass_time(world, watch, [first, second], 100, "two") == [first]
    told = capsys.readouterr().err
    assert "score: unit one: no sign of life from process 7 on 10.0.0.1 (aaaaaa) for 1 min 01 s; it is started" in told
    assert told.count("unit one") == 1


def test_what_waits_for_a_core_is_not_silent(world: World) -> None:
    watch = world.watch()
    waiting = watch.handed("unit 1", "r", "one")
    busy = watch.handed("unit 2", "r", "two")
    assert pass_time(world, watch, [waiting, busy], 1000, "two") == []


def test_what_waits_beside_free_cores_is_started_a_second_time(world: World) -> None:
    watch = world.watch()
    waiting = watch.handed("unit 1", "r", "one")
    busy = watch.handed("unit 2", "r", "two")
    world.free = frozenset({"a" * 20})
    assert pass_time(world, watch, [waiting, busy], 29, "two") == []
    world.free = frozenset()
    assert pass_time(world, watch, [waiting, busy], 5, "two") == []
    world.free = frozenset({"a" * 20})
    assert pass_time(world, watch, [waiting, busy], 30, "two") == []
    later = watch.handed("unit 3", "r", "three")
    assert pass_time(world, watch, [waiting, busy, later], 10, "two") == [waiting]


def test_nodes_are_chosen_only_after_one_was_lost(world: World) -> None:
    watch = world.watch()
    assert watch.node_to_start_on() is None
    world.nodes, world.seconds = NODES[1:], world.seconds + 2
    assert {watch.node_to_start_on() for _ in range(4)} == {"b" * 20}


def test_a_second_start_goes_to_another_node_with_free_cores_in_turn(world: World) -> None:
    world.nodes = (*NODES, Node("c" * 20, "10.0.0.3", 2, 0))
    watch = world.watch()
    waiting, begun = (watch.handed(f"unit {key}", "r", key) for key in ("one", "two"))
    world.sign("two")
    pass_time(world, watch, [waiting, begun], 2)

    def places(attempt: Attempt) -> set[str | None]:
        return {watch.node_for_second_start(attempt) for _ in range(4)}

    assert places(waiting) == {"a" * 20, "b" * 20, "c" * 20}
    world.free = frozenset({"b" * 20})
    assert places(waiting) == places(begun) == {"b" * 20}
    world.free = frozenset({"a" * 20, "c" * 20})
    assert places(waiting) == {"a" * 20, "c" * 20}
    assert places(begun) == {"c" * 20}


def test_where_nobody_gives_a_sign_what_never_began_is_asked_for_anew(world: World) -> None:
    watch = world.watch()
    early = world.seconds
    pass_time(world, watch, [], 30)
    asked = {"early": early, "late": world.seconds}
    pass_time(world, watch, [], 30)
    assert watch.to_ask_anew(asked) == []
    pass_time(world, watch, [], 1)
    assert watch.to_ask_anew(asked) == ["early"]
    pass_time(world, watch, [], 120)
    assert watch.to_ask_anew(asked) == []
    pass_time(world, watch, [], 1)
    assert watch.to_ask_anew(asked) == ["early", "late"], "twice as long later"
    hands = [watch.handed("unit 1", "r", "one")]
    pass_time(world, watch, hands, 1, "one")
    pass_time(world, watch, hands, 60)
    assert watch.to_ask_anew(asked) == []
    pass_time(world, watch, hands, 1)
    assert watch.to_ask_anew(asked) == ["early", "late"]


def test_silence_that_cost_a_unit_before_is_granted_twice_as_long(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one", silences=1)]
    world.sign("one")
    assert pass_time(world, watch, hands, 121) == []
    assert pass_time(world, watch, hands, 2) == hands


def test_a_silent_one_makes_room_when_its_second_start_found_none(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    world.sign("one")
    pass_time(world, watch, hands, 62)
    assert not watch.without_room(hands[0])
    pass_time(world, watch, hands, int(LIMITS.room_s) + 1)
    assert watch.without_room(hands[0])
    pass_time(world, watch, hands, 1, "one")
    assert not watch.without_room(hands[0]), "it woke up"


@pytest.mark.parametrize(("usual", "limit"), [(1, 60), (5, 60), (20, 200)])
def test_a_unit_that_takes_ten_times_the_median_of_its_kind_is_doubted(world: World, usual: int, limit: int) -> None:
    watch = world.watch()
    for _ in range(3):
        ended = watch.handed("unit", "r", "e", kind="score")
        ended.begun = world.seconds
        world.seconds += usual
        watch.ended(ended)
    slow, other = (watch.handed(f"unit {kind}", "r", kind, kind=kind) for kind in ("score", "join"))
    slow.begun = other.begun = world.seconds
    assert pass_time(world, watch, [slow, other], limit, "score", "join") == []
    assert pass_time(world, watch, [slow, other], 500, "score", "join") == [slow]


def test_two_that_ended_are_too_few_to_call_one_slow(world: World) -> None:
    watch = world.watch()
    for _ in range(2):
        watch.ended(watch.handed("unit", "r", "e"))
    assert pass_time(world, watch, [watch.handed("unit", "r", "one")], 1000, "one") == []


def test_a_run_with_nobody_at_work_says_so_every_half_minute_and_gives_up(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    pass_time(world, watch, hands, 299)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert lines[0].endswith(
        "score: waits for 2 core(s) on one node since 30 s: the cluster has 6 core(s), 6 held by others; gives up in "
        "4 min 30 s"
    )
    with pytest.raises(ClusterError) as caught:
        pass_time(world, watch, hands, 1)
    assert str(caught.value) == (
        "expected a worker for score, found none in 5 min 00 s: it takes 2 core(s) on one node, and the cluster has 6 "
        "core(s), 6 held by others; add nodes, wait for other jobs to end, or raise cluster.patience_s (now 300), then "
        "run the same command again: finished units are kept"
    )


def test_patience_begins_anew_with_each_sign_and_each_result(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    pass_time(world, watch, hands, 290)
    pass_time(world, watch, hands, 1, "one")
    pass_time(world, watch, hands, 290)
    watch.ended(hands[0])
    pass_time(world, watch, [], 290)
    watch.moved()
    pass_time(world, watch, [], 299)
    with pytest.raises(ClusterError):
        pass_time(world, watch, [], 1)


def test_who_is_silent_is_named_when_a_run_gives_up(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    world.sign("one")
    with pytest.raises(ClusterError, match=r"; silent: unit 1, process 7 on 10\.0\.0\.1 \(aaaaaa\); add nodes"):
        pass_time(world, watch, hands, 400)


def test_a_piece_of_work_that_lost_its_process_too_often_ends_the_run(world: World) -> None:
    watch = world.watch()
    hands = [watch.handed("unit 1", "r", "one")]
    for pid in (1, 2):
        world.seconds += 1
        world.sign("one", pid=pid)
        watch.look(hands)
    world.seconds += 1
    world.sign("one", pid=3)
    with pytest.raises(
        ClusterError, match=r"found unit 1 lost more often than cluster.max_retries allows \(3 processes"
    ):
        watch.look(hands)


def test_nodes_at_work_are_named_when_they_change(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    watch = world.watch()
    hands = [watch.handed(f"unit {key}", "r", key) for key in ("one", "two", "three")]
    world.sign("one")
    world.sign("two")
    world.sign("three", node="b" * 20)
    pass_time(world, watch, hands, 20)
    world.signs = {}
    for key in ("one", "two", "three"):
        world.sign(key)
    pass_time(world, watch, hands, 5)
    told = capsys.readouterr().err.splitlines()
    assert [line.partition(" score: ")[2] for line in told] == [
        "3 worker(s) of 2 core(s): 2 on 10.0.0.1 (aaaaaa), 1 on 10.0.0.2 (bbbbbb)",
        "3 worker(s) of 2 core(s): 3 on 10.0.0.1 (aaaaaa)",
    ]


def test_a_node_is_lost_only_if_it_was_there(world: World) -> None:
    watch = world.watch()
    watch.read_nodes()
    assert (watch.room, watch.has_lost("a" * 20), watch.has_lost("c" * 20)) == (3, False, False)
    world.nodes, world.seconds = (replace(NODES[1], cpus=8), Node("c" * 20, "10.0.0.3", 1, 0)), world.seconds + 2
    watch.read_nodes()
    assert (watch.room, watch.has_lost("a" * 20), watch.has_lost("c" * 20)) == (4, True, False)
