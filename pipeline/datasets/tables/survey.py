"""What is known of a table's rows before any of them is turned into numbers: labels, identifiers, parts.

Axes: N rows of a part, or of the whole table where parts are not told by files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha256
from math import isnan
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import DECIDING, Subject
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.tables.columns import Columns
from relatif.pipeline.datasets.tables.files import TableFile
from relatif.pipeline.datasets.tables.rows import Table, kind_of
from relatif.pipeline.draws import uniform
from relatif.schemas.digests import digest
from relatif.schemas.errors import DataError

HOLD_OUT_SEED, HOLD_OUT_DRAW = 0, 2**33
"""Decide which rows are held out: the draw's number is far from those of labels and of the Fisher."""


@dataclass(frozen=True, eq=False)
class Part:
    """The rows of a part: its files, how many rows each has, and which of them belong to it, [N] bool (None: all).

    ``values`` are the different labels in the order in which they were met, ``codes`` [N] their places, UNLABELLED for
    none.
    """

    files: tuple[TableFile, ...]
    counts: tuple[int, ...]
    values: tuple[Any, ...]
    codes: NDArray[np.int32]
    member: NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        """Number of rows that belong to the part."""
        return sum(self.counts) if self.member is None else int(self.member.sum())

    @property
    def own_codes(self) -> NDArray[np.int32]:
        """Codes of the rows that belong to the part."""
        return self.codes if self.member is None else self.codes[self.member]

    @property
    def own_values(self) -> list[Any]:
        """The different labels of the rows that belong to the part."""
        return [self.values[code] for code in np.unique(self.own_codes) if code != UNLABELLED]

    def place(self, table: Table, row: int) -> str:
        """Return how a row, counted among those that belong to the part, is called in messages."""
        if self.member is not None:
            row = int(np.flatnonzero(self.member)[row])
        for file, count in zip(self.files, self.counts, strict=True):
            if row < count:
                return f"row {row} of {table.describe(file)}"
            row -= count
        return "the table"


def survey(table: Table, files: Sequence[TableFile], columns: Columns) -> tuple[Part, list[Any]]:
    """Return the rows of some files as one part, and each row's value of the column that tells parts."""
    codes: list[NDArray[np.int32]] = []
    known: dict[Any, int] = {}
    splits: list[Any] = []
    counts: list[int] = []
    marks: list[NDArray[np.uint64]] = []
    label = columns.labels[0] if columns.is_class else None
    wanted = [name for name in dict.fromkeys([label, columns.id, columns.split]) if name is not None]
    if label is not None and pa.types.is_nested(kind := table.schema.field(label).type):
        raise DataError(
            f"expected labels that are texts, whole numbers or truth values in column {label!r} of "
            f"{table.describe(files[0])}, found {kind_of(kind)}; name another data.label_column"
        )
    for file in files:
        rows = 0
        for start, batch in table.batches(file, wanted or table.schema.names[-1:]):
            rows += batch.num_rows
            if label is not None:
                codes.append(_codes(_column(batch, label), known))
            if columns.id is not None:
                marks.append(_marks(_column(batch, columns.id), columns.id, f"{table.describe(file)}", start))
            if columns.split is not None:
                splits += _column(batch, columns.split).to_pylist()
        counts.append(rows)
    if not sum(counts):
        where = ", ".join(table.describe(file) for file in files[:3])
        raise DataError(f"expected at least 1 row in {where}, found none; give the right files")
    all_codes = np.concatenate(codes) if codes else np.full(sum(counts), UNLABELLED, np.int32)
    part = Part(tuple(files), tuple(counts), tuple(known), all_codes)
    if marks:
        _require_own_ids(part, table, np.concatenate(marks), str(columns.id))
    return part, splits


def held_out(part: Part, share: float) -> NDArray[np.bool_]:
    """Return which rows are held out, [N] bool: the share of each class, by random numbers of the rows alone."""
    draws = uniform(torch.arange(len(part.codes)), HOLD_OUT_SEED, HOLD_OUT_DRAW).numpy()
    held = np.zeros(len(part.codes), np.bool_)
    for code in np.unique(part.codes):
        rows = np.flatnonzero(part.codes == code)
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        held[rows[np.argsort(draws[rows], kind="stable")[:count]]] = True
    return held


def identifiers(column: pa.Array) -> list[str]:
    """Return the identifiers of a column as texts."""
    return [str(value) for value in column.to_pylist()]


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))


def _codes(column: pa.Array, known: dict[Any, int]) -> NDArray[np.int32]:
    """Return the place of each value among those that are known, to which new ones are added; UNLABELLED for none."""
    text = kind_of(column.type) == "text"
    found = np.empty(len(column), np.int32)
    for row, value in enumerate(column.to_pylist()):
        missing = value is None or (isinstance(value, float) and isnan(value)) or (text and not value.strip())
        found[row] = UNLABELLED if missing else known.setdefault(value, len(known))
    return found


def _marks(column: pa.Array, name: str, origin: str, start: int) -> NDArray[np.uint64]:
    """Return 64 bits of each identifier's digest; DataError for one that is none."""
    if kind_of(column.type) != "text" and not pa.types.is_integer(column.type):
        raise DataError(
            f"expected texts or whole numbers in data.id_column {name!r} of {origin}, found {column.type}; name another"
        )
    values = column.to_pylist()
    for row, value in enumerate(values):
        if value is None or value == "":
            raise DataError(
                f"expected an identifier in column {name!r} in row {start + row} of {origin}, found none; fill it in"
            )
    digests = b"".join(blake2b(str(value).encode(), digest_size=8).digest() for value in values)
    return np.frombuffer(digests, np.uint64)


def _require_own_ids(part: Part, table: Table, marks: NDArray[np.uint64], name: str) -> None:
    order = np.argsort(marks, kind="stable")
    twice = np.flatnonzero(marks[order][1:] == marks[order][:-1])
    if len(twice):
        one, other = (part.place(table, int(row)) for row in sorted(order[twice[0] : twice[0] + 2]))
        raise DataError(
            f"expected an identifier of its own for each row in column {name!r}, found the same in {one} and {other}; "
            f"correct them, or name another data.id_column"
        )


def decided_by(
    part: Part, table: Table, columns: Sequence[str], subject: Subject, labels: NDArray[np.int64] | None
) -> str:
    """Return a digest of all that decides what a part's rows become: the same one gives the same bytes.

    ``columns`` are those that are read, ``labels`` [N] the part's class numbers where its table has such.
    """
    receipts = {receipt.path: receipt.sha256 for receipt in subject.provenance.sources}
    facts = {
        "files": [(file.path, receipts[file.path]) for file in part.files],
        "types": [(field.name, str(field.type)) for field in table.schema if field.name in columns],
        "reader": subject.provenance.reader,
        "subject": subject.model_dump(mode="json", include=DECIDING),
        "unlabelled": subject.provenance.unlabelled is not None,
        "member": None if part.member is None else sha256(part.member.tobytes()).hexdigest(),
        "labels": None if labels is None else sha256(labels.tobytes()).hexdigest(),
    }
    return digest(facts)


def rows_of(
    part: Part, table: Table, columns: Sequence[str]
) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64], str]]:
    """Yield the part's rows in batches, with their numbers in the file and the file's address."""
    first = 0
    for file, count in zip(part.files, part.counts, strict=True):
        for start, batch in table.batches(file, columns):
            keep = np.ones(batch.num_rows, np.bool_)
            if part.member is not None:
                keep = part.member[first + start : first + start + batch.num_rows]
            if keep.any():
                chosen = batch if keep.all() else batch.filter(pa.array(keep))
                yield chosen, start + np.flatnonzero(keep), table.describe(file)
        first += count
