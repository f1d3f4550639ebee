"""Signs of life: a worker says every few seconds that it is alive and what it is at, and the driver reads it.

They lie in the key-value store of Ray's head: no process of their own, no clock that two machines would have to share.
"""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv

SIGN_SECONDS = 2.0
NAMESPACE = b"relatif"


@dataclass(frozen=True)
class Sign:
    """What a worker says: a number that grows, its node and process, the share that is done (None: unknown), a text."""

    count: int
    node: str
    pid: int
    share: float | None
    text: str


class Signs:
    """Gives signs of life from a thread of this process, for one piece of work after the other."""

    def __init__(self) -> None:
        self._said: tuple[float | None, str] = (None, "")

    def tell(self, share: float | None, text: str) -> None:
        """Say how far the work is: a share from 0 to 1 (None: unknown), and a text for the log."""
        self._said = (share, text)

    @property
    def text(self) -> str:
        """What was told last."""
        return self._said[1]

    @contextmanager
    def during(self, key: str) -> Iterator[None]:
        """Give signs under a key until the block ends; then the key is gone."""
        self._said = (None, "")
        ended = threading.Event()
        # The first before the work, so that whoever is lost in it is known to have begun.
        self._sign(key.encode(), 1)
        threading.Thread(target=self._give, args=(key.encode(), ended), daemon=True).start()
        try:
            yield
        finally:
            ended.set()

    def _sign(self, key: bytes, count: int) -> None:
        node = ray.get_runtime_context().get_node_id()
        sign = json.dumps([count, node, os.getpid(), *self._said]).encode()
        # Where the head does not answer for a while, the next sign counts.
        with suppress(RayError):
            internal_kv._internal_kv_put(key, sign, namespace=NAMESPACE)

    def _give(self, key: bytes, ended: threading.Event) -> None:
        count = 1
        while not ended.wait(SIGN_SECONDS):
            count += 1
            self._sign(key, count)
        with suppress(RayError):
            internal_kv._internal_kv_del(key, namespace=NAMESPACE)


def read_signs(keys: Sequence[str]) -> dict[str, Sign]:
    """Return the latest signs by key; a key without one is left out."""
    if not keys:
        return {}
    client = internal_kv.internal_kv_get_gcs_client()
    try:
        found = client.internal_kv_multi_get([key.encode() for key in keys], namespace=NAMESPACE)
    except RayError:
        return {}
    return {key.decode(): Sign(*json.loads(value)) for key, value in found.items()}


def forget_signs(prefix: str) -> None:
    """Remove what workers that were lost have left under keys with this prefix."""
    with suppress(RayError):
        internal_kv._internal_kv_del(prefix.encode(), del_by_prefix=True, namespace=NAMESPACE)
