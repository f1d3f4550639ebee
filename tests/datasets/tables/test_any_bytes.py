"""Whatever bytes, rows and settings a table has, it is read or refused in one line; ``make fuzz`` goes on."""

import gzip
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from relatif.schemas.errors import RelatifError
from tests.datasets.tables.test_published import examples, ids, opened
from tests.test_fuzz import damaged

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS: list[dict[str, Any]] = [{"x": row, "case": f"p{row}", "label": ("no", "yes")[row % 2]} for row in range(6)]

NAMES = st.sampled_from(["x", "y", "label", "case", "id", "", " x", "x.y", "ü", "__index_level_0__"])
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["1", "-2.5", "nan", "NA", "null", "true", " 3", "1e400", "9" * 25, "007", "a,b", 'a"b', "a\nb"])
    | st.lists(st.integers(0, 9) | st.text(max_size=2), max_size=3)
    | st.dictionaries(st.text(max_size=2), st.integers(), min_size=1, max_size=2)
)
SETTINGS = st.fixed_dictionaries(
    {"hold_out": st.sampled_from([0.5, 0.01])},
    optional={
        "label_column": st.just("label") | NAMES.filter(len) | st.lists(NAMES, min_size=1, max_size=2).map(tuple),
        "input_columns": st.just(("x",)) | st.lists(NAMES, min_size=1, max_size=2).map(tuple),
        "id_column": st.just("case") | NAMES,
        "class_names": st.sampled_from([("no", "yes"), ("yes", "no", "1"), ("1", "0"), ("a", "b")]),
    },
)


def comma(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as CSV, without any care for what their texts hold."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [names, *([row.get(name, "") for name in names] for row in rows)]
    return "\n".join(",".join(map(str, line)) for line in lines).encode("utf-8", "surrogatepass")


def lines(rows: list[dict[str, Any]]) -> bytes:
    return "\n".join(map(json.dumps, rows)).encode("utf-8", "surrogatepass")


def parquet(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as Parquet; columns of several kinds of values as their texts."""
    columns: dict[str, pa.Array] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, OverflowError, UnicodeError, ValueError):
            columns[name] = pa.array([ascii(value) for value in values])
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


def zipped(rows: list[dict[str, Any]]) -> bytes:
    return gzip.compress(comma(rows), mtime=0)


KINDS = {"a.csv": comma, "a.csv.gz": zipped, "a.jsonl": lines, "a.parquet": parquet}


def read_or_refused(files: dict[str, bytes], **given: Any) -> dict[str, Any] | None:
    """Prepare a table and read it whole: inputs, labels and identifiers by part, or None where it is refused."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            path = Path(folder, "source", name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        try:
            store, dataset = opened(Path(folder, "source"), Path(folder), **given)
            found = {part: (examples(store, dataset, part), ids(store, dataset, part)) for part in ("train", "test")}
        except RelatifError as error:
            if not str(error).startswith("expected ") or "\n" in str(error):
                raise TypeError(f"expected one line that says what was expected, found {error}") from error
            return None
        assert all(len(read.labels) == dataset.rows(part) for part, (read, _) in found.items())
        return found


@pytest.mark.parametrize("name", KINDS)
@given(data=st.data())
def test_any_bytes_are_read_or_refused(name: str, data: st.DataObject) -> None:
    content = data.draw(damaged(KINDS[name](ROWS)) | st.binary(max_size=40))
    read_or_refused({name: content}, hold_out=0.5, **data.draw(st.sampled_from([{}, {"input_columns": ("x",)}])))


@pytest.mark.parametrize("name", KINDS)
@given(rows=st.lists(st.dictionaries(NAMES, VALUES, max_size=4), min_size=1, max_size=5), asked=SETTINGS)
@example(rows=[{"x": 1, "label": [1]}], asked={"hold_out": 0.5, "input_columns": ("x",)})
@example(rows=[{"x": {"\n": 0}}], asked={"hold_out": 0.5})
@example(rows=ROWS, asked={"hold_out": 0.5, "input_columns": ("x",), "id_column": "case"})
def test_any_rows_are_read_or_refused(name: str, rows: list[dict[str, Any]], asked: dict[str, Any]) -> None:
    read_or_refused({name: KINDS[name](rows)}, **asked)


@settings(max_examples=settings.default.max_examples // 5)  # each writes and reads four data sets
@given(
    values=st.lists(
        st.integers(-(10**6), 10**6) | st.floats(-1e30, 1e30, allow_subnormal=False), min_size=4, max_size=9
    ),
    data=st.data(),
)
def test_every_kind_of_file_gives_the_same_rows(values: list[float], data: st.DataObject) -> None:
    classes = data.draw(st.lists(st.sampled_from(["no", "yes"]), min_size=len(values), max_size=len(values)))
    rows = [{"x": float(x), "case": f"p{row}", "label": classes[row]} for row, x in enumerate(values)]
    given_settings = {"hold_out": 0.3, "input_columns": ("x",), "id_column": "case", "class_names": ("no", "yes")}
    found = [read_or_refused({name: write(rows)}, **given_settings) for name, write in KINDS.items()]
    if any(each is None for each in found):
        assert found == [None] * len(KINDS), "refused alike"
        return
    known = {row["case"]: row for row in rows}
    for each in found:
        assert each is not None
        read = [
            (name, np.float32(x), ("no", "yes")[label])
            for part, names in each.values()
            for name, (x,), label in zip(names, part.inputs.tolist(), part.labels.tolist(), strict=True)
        ]
        assert sorted(name for name, _, _ in read) == sorted(known)
        assert all((x, label) == (np.float32(known[name]["x"]), known[name]["label"]) for name, x, label in read)


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@given(data=st.data())
def test_any_picture_is_read_or_refused(kind: str, data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(["L", "RGB", "RGBA", "P", "CMYK", "1"][: 6 if kind == "PNG" else 2]))
    mode = "RGB" if kind == "PNG" and mode == "CMYK" else mode
    file = io.BytesIO()
    Image.new(mode, data.draw(st.sampled_from([(4, 4), (3, 5)]))).save(file, kind)
    plain = io.BytesIO()
    Image.new("RGB", (4, 4)).save(plain, kind)
    suffix = kind.lower()
    files = {f"{label}/{number}.{suffix}": plain.getvalue() for label in "ab" for number in range(2)}
    files[data.draw(st.sampled_from([f"a/0.{suffix}", f"b/9.{suffix}"]))] = data.draw(damaged(file.getvalue()))
    given_settings = data.draw(
        st.fixed_dictionaries(
            {}, optional={"image_size": st.sampled_from([2, (3, 4)]), "image_mode": st.sampled_from(["L", "RGB"])}
        )
    )
    read_or_refused(files, hold_out=0.5, **given_settings)
