"""Workers give signs of life as long as they work, and say how far they are."""

import os
import time
from pathlib import Path

import pytest
import ray

from relatif.pipeline.cluster.signs import SIGN_SECONDS, Sign, Signs, forget_signs, read_signs
from relatif.pipeline.cluster.tasks import Telling, gather, submit
from relatif.pipeline.devices import Tell
from tests.support.processes import wait_until

pytestmark = pytest.mark.usefixtures("local_ray")


def sign_of(key: str) -> Sign | None:
    return read_signs([key, f"{key} of nobody"]).get(key)


def test_signs_are_given_until_the_work_ends_and_say_what_was_told() -> None:
    signs = Signs()
    with signs.during("work one"):
        wait_until(lambda: sign_of("work one"), timeout=10)
        first = sign_of("work one")
        assert first == Sign(1, ray.get_runtime_context().get_node_id(), os.getpid(), None, "")
        signs.tell(0.25, "epoch 1 of 4")
        wait_until(lambda: sign_of("work one") != first, timeout=SIGN_SECONDS + 10)
        second = sign_of("work one")
        assert second is not None
        assert (second.count, second.share, second.text) == (2, 0.25, "epoch 1 of 4")
    wait_until(lambda: sign_of("work one") is None, timeout=SIGN_SECONDS + 10)
    with signs.during("work two"):
        wait_until(lambda: sign_of("work two"), timeout=10)
        assert sign_of("work two") == Sign(1, ray.get_runtime_context().get_node_id(), os.getpid(), None, "")


def test_signs_of_the_lost_are_forgotten() -> None:
    signs = Signs()
    with signs.during("lost: one"):
        wait_until(lambda: sign_of("lost: one"), timeout=10)
        forget_signs("lost: ")
        assert sign_of("lost: one") is None
    assert read_signs([]) == {}


class Heard:
    """Progress that keeps what it is told."""

    def __init__(self, go: Path) -> None:
        self.go, self.told = go, set[tuple[float | None, str]]()

    def advance(self, n: int = 1, note: str = "") -> None:
        pass

    def tick(self) -> None:
        pass

    def tell(self, share: float | None, text: str) -> None:
        self.told.add((share, text))
        self.go.touch()


def telling(tell: Tell, go: Path) -> str:
    tell(0.5, "half of it")
    while not go.exists():
        time.sleep(0.05)
    return "done"


def test_what_a_task_tells_reaches_the_drivers_progress(tmp_path: Path) -> None:
    heard = Heard(tmp_path / "go")
    assert gather([submit(Telling(telling), tmp_path / "go")], shown=heard) == ["done"]
    assert heard.told == {(0.5, "half of it"), (None, "half of it")}
