"""The proof that a piece of work is finished: written last, with the digest of everything it depends on."""

from pydantic import BaseModel, ConfigDict


class FileReceipt(BaseModel):
    """A file that was written: where (relative to the run directory), how large, and its contents' SHA-256 (hex)."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    path: str
    bytes: int
    sha256: str
    rows: int | None = None


class Manifest(BaseModel):
    """Proof of finished work: valid while ``digest`` is that of today's dependencies and every output is there."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    work: str
    digest: str
    outputs: tuple[FileReceipt, ...]
    seconds: float
    facts: dict[str, str] = {}
