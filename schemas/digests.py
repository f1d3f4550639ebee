"""Digests: one canonical form for everything that is compared by hash."""

import hashlib
import json
from typing import Any

VERSION = "0.1.0"
"""Version of the distribution; pyproject.toml reads it here."""

SCHEMA_VERSION = 1
"""Version of tables, run directory and manifests; only additions keep it."""


def digest(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON-serializable value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
