"""The proof that a piece of work is finished: written last, with the digest of everything it depends on."""

from typing import Any

from pydantic import BaseModel, ConfigDict


class FileReceipt(BaseModel):
    """A file that was written: where (relative to the run directory), how large, and its contents' SHA-256 (hex)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: int
    sha256: str
    rows: int | None = None


class Manifest(BaseModel):
    """Proof of finished work: valid while ``digest`` is that of today's dependencies and every output is whole.

    A stage's proof also tells the ``settings`` that decided it and what it was ``made_from``: by the name of each
    stage that it needs, the SHA-256 of that stage's outputs. ``claim`` is the writer's, see ``storage/claims.py``, and
    ``path`` its own place, so that two proofs can't be exchanged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    work: str
    digest: str
    outputs: tuple[FileReceipt, ...]
    seconds: float
    facts: dict[str, str] = {}
    settings: dict[str, Any] = {}
    made_from: dict[str, tuple[str, ...]] = {}
    claim: str | None = None
    path: str | None = None

    @property
    def hashes(self) -> tuple[str, ...]:
        """SHA-256 of the outputs, in order."""
        return tuple(output.sha256 for output in self.outputs)
