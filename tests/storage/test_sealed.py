"""A sealed text shows every changed bit, wherever it is."""

import json

import pytest

from relatif.pipeline.storage.sealed import BrokenSealError, is_sealed, sealed, unsealed

CONTENT = {"damping": 1e-05, "hash": "0" * 64, "text": "\u00e9 and more", "list": [{"a": None}, True], "empty": {}}


def test_what_is_sealed_comes_back() -> None:
    data = sealed(CONTENT)
    assert unsealed(data) == CONTENT
    assert {key: value for key, value in json.loads(data).items() if key != "sha256"} == CONTENT
    assert sealed(CONTENT) == data
    assert unsealed(sealed({})) == {}


def test_every_changed_bit_and_every_cut_is_seen() -> None:
    data = sealed(CONTENT)
    for place in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[place] ^= 1 << bit
            with pytest.raises(ValueError):
                # As the record of a run is read, whose earlier versions have no seal.
                unsealed(bytes(changed)) if is_sealed(bytes(changed)) else json.loads(changed)
            with pytest.raises(BrokenSealError):
                unsealed(bytes(changed))
    for length in range(len(data)):
        with pytest.raises(BrokenSealError):
            unsealed(data[:length])


def test_a_text_without_a_seal_is_told_apart() -> None:
    plain = json.dumps(CONTENT, indent=2).encode() + b"\n"
    assert not is_sealed(plain)
    with pytest.raises(BrokenSealError, match="no seal: it is not whole, or was written by an earlier version"):
        unsealed(plain)
