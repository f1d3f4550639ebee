"""A row that a user gives, read as the rows of the table that the data were prepared from.

Axes: D numbers of a target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.datasets.description import Subject, TargetDescription
from relatif.pipeline.datasets.given.tensors import stored_tensors
from relatif.pipeline.datasets.given.texts import of_a_tokenizer
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.tables.choosing import Reader, choose_reader
from relatif.pipeline.datasets.tables.columns import IMAGES, NUMBERS, OWN, TEXTS, TOKENS, Columns, number_columns
from relatif.pipeline.datasets.tables.own import Own
from relatif.pipeline.datasets.tables.readers import Numbers, Rows, numbers_of
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.datasets.tables.token_lists import UNKNOWN, TokenLists, token_targets
from relatif.pipeline.inputs import Inputs
from relatif.schemas.errors import DataError

Row = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class StoredRow:
    """One example as the data store it: inputs [1, ...], targets [1, ...], and what was done to it, in sentences.

    ``text`` is what was encoded, where the row holds a text. A target that the row does not tell is UNLABELLED, or NaN.
    """

    inputs: Inputs
    targets: Tensor
    notes: tuple[str, ...] = ()
    text: str | None = None


def read_row(row: Row, subject: Subject, reading: Reading, where: str) -> StoredRow:
    """Return a row of a table by the columns that the data were prepared from.

    Raises DataError, naming the column, for one that is missing or has no value that the data's reader takes, and where
    the settings, the tokenizer or the task's own reader are not those by which the data were prepared.
    """
    columns = columns_of(subject, reading)
    _require_columns(row, columns, where)
    rows = _as_rows(row, columns, where)
    reader = _reader(columns, subject, reading, rows)
    arrays, more = reader.read(rows)
    inputs = stored_tensors(subject.formed([torch.tensor(each) for each in arrays]), subject)
    if isinstance(reader, Own):
        return StoredRow(inputs, _own_target(more, subject, where))
    text = str(row[columns.inputs[0]]) if columns.reader == TEXTS else None
    notes = (*_notes(row, columns, reader, reading, where), *_not_read(row, columns))
    return StoredRow(inputs, _target(row, rows, columns, arrays, subject, reading), notes, text)


def columns_of(subject: Subject, reading: Reading) -> Columns:
    """Return which columns of a table the data were prepared from; DataError where they do not tell."""
    facts, config = subject.provenance.reader, reading.config
    if facts is None:
        raise DataError(
            f"expected data that were prepared from a table, found {subject.name}, whose inputs have no columns; give "
            f"a picture, a text or a tensor"
        )
    if facts["reader"] == OWN:
        return Columns(OWN, config.input_columns or (), config.label_columns, config.target_columns or ())
    inputs = _names(facts["columns"], facts["reader"], config.input_columns, subject)
    target = subject.target
    if target is None:
        label = subject.provenance.label_column
        return Columns(facts["reader"], inputs, () if label is None else (label,), is_class=True)
    if "ignore_index" in facts:
        return Columns(facts["reader"], inputs, per_token=(target.names or ("",))[0])
    several = config.target_columns is None and isinstance(config.label_column, tuple)
    names = target.names or ()
    return Columns(facts["reader"], inputs, names if several else (), () if several else names)


def unknown_target(target: TargetDescription | None, ignored: int) -> Tensor:
    """Return the target of an example that nobody knows, [1, ...]: UNLABELLED, NaN, or below what is left out."""
    if target is None:
        return torch.full((1,), UNLABELLED)
    if target.dtype == "float32":
        return torch.full((1, *target.shape), float("nan"))
    return torch.full((1, *target.shape), UNKNOWN if ignored != UNKNOWN else UNKNOWN - 1)


def _names(joined: str, reader: str, chosen: tuple[str, ...] | None, subject: Subject) -> tuple[str, ...]:
    """Return names that were joined by commas, which names may have themselves."""
    if reader in (IMAGES, TEXTS):
        return (joined,)
    if reader != NUMBERS:
        return tuple(joined.split(", "))
    names = number_columns(subject.provenance.reader, subject.input.numbers, chosen)
    if names is None:
        raise DataError(
            f"expected to tell the {subject.input.numbers} columns of the data's table, found {joined!r}, whose names "
            f"have commas; give a tensor"
        )
    return names


def _require_columns(row: Row, columns: Columns, where: str) -> None:
    missing = [name for name in columns.inputs if name not in row]
    if missing:
        known = ", ".join(map(str, list(row)[:12])) or "none"
        raise DataError(
            f"expected the columns {', '.join(columns.inputs[:12])}{', ...' if len(columns.inputs) > 12 else ''} in "
            f"{where}, found no {', '.join(map(repr, missing[:5]))} among {known}; add it"
        )


def _as_rows(row: Row, columns: Columns, where: str) -> Rows:
    """Return the row as a batch of one: the columns that are read, or all for a task's own reader."""
    every = columns.reader == OWN and not columns.inputs
    read = (*columns.inputs, *columns.labels, *columns.targets, *filter(None, [columns.per_token]))
    given = {name: _column(row[name], name, where) for name in (row if every else dict.fromkeys(read)) if name in row}
    if columns.per_token is not None and columns.per_token not in given:
        given[columns.per_token] = pa.nulls(1, pa.list_(pa.int64()))
    batch = pa.RecordBatch.from_arrays(list(given.values()), names=[str(name) for name in given])
    return Rows(batch, np.zeros(1, np.int64), where)


def _column(value: Any, name: str, where: str) -> pa.Array:
    try:
        return pa.array([value])
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"expected a number, a text or a list of whole numbers in column {name!r} of {where}, found "
            f"{type(value).__name__} ({' '.join(str(error).split())}); correct it"
        ) from error


def _reader(columns: Columns, subject: Subject, reading: Reading, rows: Rows) -> Reader | Own:
    """Return the reader that the data were prepared by; DataError where what decides it has changed."""
    facts = subject.provenance.reader or {}
    if columns.reader == NUMBERS:
        return Numbers(columns.inputs)
    if columns.reader == IMAGES:
        raise DataError(f"expected a picture, found a row in {rows.origin}; give the picture's file")
    if columns.reader == TOKENS:
        model = reading.text_model()
        _require_same(facts, {**facts, "padding": str(model.padding or 0)})
        return TokenLists(columns.inputs, subject.input.shape[0], model.padding, model.words)
    chosen = choose_reader(columns, reading, (rows,))
    _require_same(facts, chosen.facts)
    return chosen.reader


def _require_same(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in ("code", "tokenizer", "max_length", "padding"):
        if then.get(name) != now.get(name) and (name in then or name in now):
            told = {"code": "the task's read"}.get(name, name)
            raise DataError(
                f"expected {told} as it was when the data were prepared, found another; put it back, or make the run "
                f"again with what there is now"
            )


def _notes(row: Row, columns: Columns, reader: Reader, reading: Reading, where: str) -> tuple[str, ...]:
    """Return what became of more tokens than the model reads, as the data's, and of words that nobody knows.

    Raises DataError for a list that is longer than all of the data's, where none of these was cut.
    """
    value = row[columns.inputs[0]]
    if columns.reader == TEXTS:
        address = reading.config.tokenizer or reading.text_model().tokenizer
        return of_a_tokenizer(str(value), str(address), reader.length)  # type: ignore[union-attr]
    if not isinstance(reader, TokenLists) or len(value) <= reader.length:
        return ()
    if reading.config.max_length is None:
        raise DataError(
            f"expected at most {reader.length} tokens, as the data's longest list has, in column "
            f"{columns.inputs[0]!r} of {where}, found {len(value)}; shorten it"
        )
    return (f"it was cut from {len(value)} to {reader.length} tokens, as the data's are",)


def _not_read(row: Row, columns: Columns) -> tuple[str, ...]:
    """Return which columns of a row nobody reads."""
    read = {*columns.inputs, *columns.labels, *columns.targets, columns.per_token}
    others = [str(name) for name in row if name not in read]
    return (f"the model does not read {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}",) if others else ()


def _own_target(found: Any, subject: Subject, where: str) -> Tensor:
    """Return the target that a task's own reader gives; DataError where it is none of the data's."""
    target = torch.from_numpy(np.ascontiguousarray(found))
    expected = () if subject.target is None else subject.target.shape
    classes = len(subject.class_names)
    whole = subject.target is not None or not classes or -1 <= int(target.reshape(-1)[0]) < classes
    if tuple(target.shape) != (1, *expected) or not whole:
        raise DataError(
            f"expected a target of shape {[1, *expected]}{f' below {classes}' if classes else ''} from the task's read "
            f"for {where}, found {target.tolist()!r:.60}; give the columns of the target, too"
        )
    return target


def _target(
    row: Row, rows: Rows, columns: Columns, arrays: Sequence[Any], subject: Subject, reading: Reading
) -> Tensor:
    unknown = unknown_target(subject.target, reading.ignore_index)
    if columns.per_token is not None:
        given = columns.per_token, columns.inputs, tuple(arrays), reading.ignore_index
        return torch.from_numpy(np.ascontiguousarray(token_targets(rows, *given, required=False)))
    names = columns.labels or columns.targets
    there = [name for name in names if row.get(name) is not None]
    if not there:
        return unknown
    if subject.target is None:
        return torch.tensor([class_number(row[names[0]], subject, reading, rows.origin)])
    if len(there) < len(names):
        lacking = next(name for name in names if name not in there)
        raise DataError(
            f"expected all of {', '.join(names)} in {rows.origin}, or none, found no {lacking!r}; add it, or leave "
            f"the others out"
        )
    return _numbers(rows, columns, names)


def _numbers(rows: Rows, columns: Columns, names: Sequence[str]) -> Tensor:
    found = numbers_of(rows, names)
    if columns.labels and not np.isin(found, (0, 1)).all():
        wrong = names[int((~np.isin(found[0], (0, 1))).argmax())]
        raise DataError(f"expected 0 or 1 in column {wrong!r} of {rows.origin}, found another number; correct it")
    return torch.from_numpy(found)


def class_number(value: Any, subject: Subject, reading: Reading, where: str) -> int:
    """Return the number of the class that a row's label names, as the data's labels do; DataError for another label."""
    names = subject.class_names
    text = str(value).lower() if isinstance(value, bool) else str(value)
    is_number = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(names)
    if text in names and (not is_number or names[int(value)] == text or reading.config.class_names is not None):
        return names.index(text)
    if is_number and text not in names:
        return int(value)
    both = f", the name of class {names.index(text)} and the number of {names[int(value)]!r}" if text in names else ""
    raise DataError(
        f"expected one of the classes {', '.join(names[:8])}{', ...' if len(names) > 8 else ''} as label in {where}, "
        f"found {value!r}{both}; correct it, or leave the label out"
    )
