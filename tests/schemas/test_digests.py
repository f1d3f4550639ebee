"""Digests: equal for equal values, different for different ones, and for every change of the source."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.schemas.digests import SCHEMA_VERSION, VERSION, code_version, digest

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


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("schemas", "pipeline", "jobs"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def version_of(folder: Path) -> str:
    code = "from relatif.schemas.digests import code_version; print(code_version())"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_code_version_is_that_of_the_source(copy) -> None:
    same = version_of(copy)
    assert same.strip() == code_version()
    assert same.startswith(f"{VERSION}+")

    (copy / "jobs/run.py").write_text("# jobs only start stages\n")
    (copy / "pipeline/notes.txt").write_text("no source\n")
    assert version_of(copy) == same

    changed = {same}
    for name in ("pipeline/influence/top_k.py", "schemas/tables.py"):
        with (copy / name).open("a") as file:
            file.write("# changed\n")
        changed.add(version_of(copy))
    (copy / "pipeline/parallel.py").rename(copy / "pipeline/threads.py")
    changed.add(version_of(copy))
    assert len(changed) == 4


def test_the_version_is_the_distributions() -> None:
    assert f'\nversion = "{VERSION}"\n' in (ROOT / "pyproject.toml").read_text()
    assert SCHEMA_VERSION == 1
