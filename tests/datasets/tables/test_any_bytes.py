"""Whatever bytes a table's file holds, it is read or refused in one line."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.schemas.errors import RelatifError
from tests.datasets.tables.test_published import examples, opened

TEXT = "x,label\n1,no\n2,yes\n3,no\n4,yes\n"
LINES = '{"x": 1, "label": "no"}\n{"x": 2, "label": "yes"}\n{"x": 3, "label": "no"}\n{"x": 4, "label": "yes"}\n'


@st.composite
def damaged(draw: st.DrawFn, whole: str) -> bytes:
    """A table's text with some bytes replaced, inserted or left out."""
    data = bytearray(whole.encode())
    for _ in range(draw(st.integers(1, 4))):
        place, length = draw(st.integers(0, len(data))), draw(st.integers(0, 3))
        data[place : place + length] = draw(st.binary(max_size=3) | st.sampled_from([b'"', b"\n", b",", b"nan", b"{}"]))
    return bytes(data)


@pytest.mark.parametrize(
    ("name", "whole"), [("a.csv", TEXT), ("a.jsonl", LINES), ("a.csv.gz", TEXT), ("a.parquet", TEXT)]
)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, whole: str, data: st.DataObject) -> None:
    content = data.draw(damaged(whole))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        source.mkdir()
        (source / name).write_bytes(content)
        told = "expected "
        try:
            store, dataset = opened(source, Path(folder), hold_out=0.5)
            assert len(examples(store, dataset, "train").labels) == dataset.rows("train")
        except RelatifError as error:
            told = str(error)
        assert told.startswith("expected ")
        assert "\n" not in told
