"""Digests: equal for equal values, different for different ones; and the version."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.schemas.digests import SCHEMA_VERSION, VERSION, digest

ROOT = Path(__file__).resolve().parents[2]

scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: reordered(value[key]) for key in reversed(value)}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@settings(deadline=None)
@given(values)
def test_the_order_of_keys_does_not_matter(value) -> None:
    assert digest(reordered(value)) == digest(value)


@settings(deadline=None)
@given(values)
def test_a_round_trip_through_a_file_does_not_matter(value) -> None:
    assert digest(json.loads(json.dumps(value, indent=2))) == digest(value)


@settings(deadline=None)
@given(values, values)
def test_different_values_have_different_digests(one, other) -> None:
    assert (digest(one) == digest(other)) == (json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True))


@pytest.mark.parametrize(
    ("one", "other"),
    [([1, 2], [2, 1]), ({"a": 1}, {"a": "1"}), ({"a": None}, {}), (0.1, 0.1 + 2**-54), ("ab", ["a", "b"]), (1, True)],
)
def test_values_that_look_alike_have_different_digests(one, other) -> None:
    assert digest(one) != digest(other)


def test_the_digest_is_sha256_of_canonical_json() -> None:
    assert digest({"b": [1, "ü"], "a": None}) == hashlib.sha256(b'{"a":null,"b":[1,"\\u00fc"]}').hexdigest()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"bytes"])
def test_what_is_no_json_is_refused(value) -> None:
    with pytest.raises((ValueError, TypeError)):
        digest({"value": value})


def test_a_distribution_that_is_built_has_this_version(tmp_path: Path) -> None:
    backend = (
        f"from setuptools import build_meta; print(build_meta.prepare_metadata_for_build_wheel({str(tmp_path)!r}))"
    )
    subprocess.run([sys.executable, "-c", backend], cwd=ROOT, check=True, capture_output=True, text=True)

    (metadata,) = tmp_path.glob("*.dist-info/METADATA")
    assert f"\nVersion: {VERSION}\n" in metadata.read_text(encoding="utf-8")


def test_only_additions_were_made_to_what_is_stored() -> None:
    assert SCHEMA_VERSION == 1
