"""JSON files that carry the SHA-256 of their own text, so that one changed bit in them is seen.

The last entry is ``"sha256"``: the hash of the file's bytes with zeros in its place.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

SEAL = "sha256"
_BLANK = b"0" * 64
_BEFORE, _AFTER = b'": "', b'"\n}\n'


class BrokenSealError(ValueError):
    """The text is not the one that was sealed."""


def sealed(content: Mapping[str, Any]) -> bytes:
    """Return a JSON object with its seal, as text that ends with a line break."""
    text = json.dumps({**content, SEAL: _BLANK.decode()}, indent=1).encode() + b"\n"
    return _with_hash(text, _hash(text))


def unsealed(data: bytes) -> dict[str, Any]:
    """Return the object without its seal; BrokenSealError where the seal is missing or is that of another text."""
    if not is_sealed(data):
        raise BrokenSealError("no seal: it is not whole, or was written by an earlier version")
    if _with_hash(data, _hash(_with_hash(data, _BLANK))) != data:
        raise BrokenSealError("a changed text: its SHA-256 is not the one that it carries")
    content = json.loads(data)
    del content[SEAL]
    return dict(content)


def is_sealed(data: bytes) -> bool:
    """Return whether a text ends as a sealed one does, whole or damaged."""
    # By the places of the punctuation alone: one changed bit there leaves no valid JSON.
    start = len(data) - len(_AFTER) - len(_BLANK)
    return start > 0 and data.endswith(_AFTER) and data[start - len(_BEFORE) : start] == _BEFORE


def _hash(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()


def _with_hash(data: bytes, value: bytes) -> bytes:
    end = len(data) - len(_AFTER)
    return data[: end - len(value)] + value + data[end:]
