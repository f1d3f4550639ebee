"""CSV and JSON Lines, plain or gzipped, block by block; values of CSV are texts until their column is settled.

Axes: N rows of a block.
"""

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as pa_csv

from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError, RelatifError

BLOCK_BYTES = 8 * 2**20
"""Of a CSV file in memory at once; a single row may not be longer."""

JSON_ROWS = 1000

DELIMITERS = (",", ";", "\t", "|")

MISSING = ("", "na", "n/a", "nan", "null", "none")
"""Words, in small letters, that stand for no value in columns of numbers."""

FORMS = {
    pa.bool_(): "^(true|false)$",
    pa.int64(): r"^-?(0|[1-9]\d{0,17})$",
    pa.float64(): r"^[+-]?(((0|[1-9]\d{0,17})(\.\d*)?|\.\d+|[1-9]\d+\.\d*)(e[+-]?\d+)?|inf|infinity)$",
}
"""What the values of a column of texts look like, in small letters, if it holds truth values or numbers.

What begins with zeros, and a whole number of more digits than any type holds, is a name: 007 is not 7.
"""


def csv_schema(store: Store, path: str) -> pa.Schema:
    """Return the columns that the first line of a CSV file names, as texts; DataError where it names none."""
    with _opened(store, path) as file:
        return pa.schema([(name, pa.string()) for name in _header(file, store.describe(path))[0]])


def csv_blocks(store: Store, path: str) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a CSV file with a header, every value as a text; DataError, naming the file, for damage."""
    origin = store.describe(path)
    with _opened(store, path) as file:
        names, delimiter = _header(file, origin)
    types = dict.fromkeys(names, pa.string())
    with _opened(store, path) as file:
        reader = pa_csv.open_csv(
            file,
            pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
            pa_csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            pa_csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )
        yield from reader


def json_blocks(store: Store, path: str) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Yield the rows of a file with one JSON object a line, each block with the number of its first row."""
    origin, start = store.describe(path), 0
    with _opened(store, path) as file, io.TextIOWrapper(file, "utf-8-sig") as text:
        lines = (line for line in text if line.strip())
        while block := list(islice(lines, JSON_ROWS)):
            yield start, [_object(line, start + place, origin) for place, line in enumerate(block)]
            start += len(block)


def settled(possible: list[pa.DataType], column: pa.Array) -> list[pa.DataType]:
    """Return which of the types that a column of texts may have fit these values, too."""
    values = _given(column)
    return [kind for kind in possible if pc.all(pc.match_substring_regex(values, FORMS[kind])).as_py() is not False]


def has_values(column: pa.Array) -> bool:
    """Return whether a column of texts has other values than those that stand for none."""
    return len(_given(column)) > column.null_count if column.null_count else bool(len(_given(column)))


def converted(column: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return a column of texts as the type that it was found to have; null where there is no value."""
    if kind == pa.string():
        return column
    plain = _plain(column)
    missing = pc.is_in(plain, pa.array(MISSING))
    unsigned = pc.utf8_ltrim(plain, characters="+")
    return pc.cast(pc.if_else(missing, pa.scalar(None, pa.string()), unsigned), kind)


def _plain(column: pa.Array) -> pa.Array:
    return pc.utf8_lower(pc.utf8_trim_whitespace(column))


def _given(column: pa.Array) -> pa.Array:
    plain = _plain(column)
    return plain.filter(pc.invert(pc.is_in(plain, pa.array(MISSING))))


def _header(file: BinaryIO, origin: str) -> tuple[list[str], str]:
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        line = next(iter(text), "").strip("\r\n")
    delimiter = max(DELIMITERS, key=line.count)
    names = next(csv.reader([line], delimiter=delimiter), [])
    twice = [name for name in names if names.count(name) > 1]
    if not names or twice or not any(name.strip() for name in names):
        raise DataError(
            f"expected a first line of column names in {origin}, found {f'{twice[0]!r} twice' if twice else 'none'}; "
            f"give each column a name of its own"
        )
    return names, delimiter


def _object(line: str, row: int, origin: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"expected one JSON object a line in {origin}, found {line.strip()[:40]!r} in row {row} ({error}); write "
            f"JSON Lines"
        ) from error
    if not isinstance(found, dict):
        raise DataError(
            f"expected one JSON object a line in {origin}, found a {type(found).__name__} in row {row}; write each row "
            f"as an object on a line of its own"
        )
    return found


@contextmanager
def _opened(store: Store, path: str) -> Iterator[BinaryIO]:
    """Open a file, unpacked where it is gzipped; what reading it raises is told with its address."""
    origin = store.describe(path)
    with store.open(path) as file:
        zipped = origin.lower().endswith(".gz")
        try:
            with gzip.GzipFile(fileobj=file) if zipped else nullcontext(file) as plain:
                yield cast(BinaryIO, plain)
        except RelatifError:
            raise
        except (pa.ArrowException, OSError, EOFError, ValueError, zlib.error) as error:
            told = " ".join(str(error).split())[:300]
            raise DataError(f"expected a whole table in {origin}, found {told}; correct the file") from error
