"""A table as a published data set: read once to know its rows, then turned into examples chunk by chunk.

Axes: N rows of a batch.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.console import say
from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import (
    TARGET_COLUMN,
    InputDescription,
    Subject,
    TargetDescription,
)
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.preparing import MadeAnew, Published, file_receipt
from relatif.pipeline.datasets.provenance import HoldOut, Provenance
from relatif.pipeline.datasets.tables.choosing import Reader, choose_reader
from relatif.pipeline.datasets.tables.classes import NamesOf, classes_of
from relatif.pipeline.datasets.tables.columns import OWN, Columns, choose_columns, hub_names, told
from relatif.pipeline.datasets.tables.files import PICTURE, TableFile, table_files
from relatif.pipeline.datasets.tables.own import Own
from relatif.pipeline.datasets.tables.readers import Arrays, Rows, numbers_of
from relatif.pipeline.datasets.tables.reading import Reading
from relatif.pipeline.datasets.tables.rows import Table, open_table
from relatif.pipeline.datasets.tables.survey import (
    HOLD_OUT_SEED,
    Part,
    decided_by,
    held_out,
    identifiers,
    rows_of,
    survey,
)
from relatif.pipeline.datasets.tables.token_lists import token_targets
from relatif.pipeline.datasets.writing import ROWS_PER_GROUP
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError

NAME = "table"
ROW_GROUP_BYTES = 64 * 2**20


def is_table(source: Store, reading: Reading) -> bool:
    """Return whether files of a table lie in ``source``, or it is one."""
    return bool(table_files(source, reading.parts))


def read_table(source: Store, reading: Reading) -> Published:
    """Read a table: every row's label, identifier and part at once, inputs when their chunk is taken.

    Raises DataError, naming file and row, for whatever can't be read or told apart; TaskError for what a task's own
    ``read`` raises.
    """
    files = table_files(source, reading.parts)
    if not files:
        raise DataError(
            f"expected Parquet, CSV, JSON Lines or pictures in {source.describe()}, found none; correct data.source"
        )
    table = _table(source, files, reading)
    columns = choose_columns(table.schema, reading, source.describe())
    parts = _parts(table, columns, reading)
    names, labels = _classes(table, columns, parts, reading)
    chosen = choose_reader(columns, reading, _every(table, parts, columns.inputs))
    made = _Made(table, columns, chosen.reader, names, labels, reading.ignore_index, reading.parts[0])
    subject = _subject(made, parts, reading, chosen.facts)
    rows = {name: part.rows for name, part in parts.items()}
    for line in told(subject, columns, rows, chosen.note):
        say(line)
    chunks = {name: MadeAnew(partial(made.chunks, name, part)) for name, part in parts.items()}
    paths = {name: tuple(file.path for file in part.files) for name, part in parts.items()}
    decided = {
        name: decided_by(part, table, made.read_columns, subject, None if labels is None else labels[name])
        for name, part in parts.items()
    }
    group = max(1, min(ROWS_PER_GROUP, ROW_GROUP_BYTES // subject.row_bytes))
    ids = {} if columns.id is None else {name: partial(made.ids, part) for name, part in parts.items()}
    return Published(subject, chunks, rows, group, paths, decided, ids)


@dataclass(frozen=True, eq=False)
class _Made:
    """How rows become chunks; ``labels`` [N] by part are class numbers, where the table has those."""

    table: Table
    columns: Columns
    reader: Reader | Own
    class_names: tuple[str, ...]
    labels: Mapping[str, NDArray[np.int64]] | None
    ignore_index: int
    train: str

    @property
    def read_columns(self) -> list[str]:
        """The columns that rows are read with; all where a task's own reader names none."""
        columns = self.columns
        if columns.reader == OWN and not columns.inputs:
            return self.table.schema.names
        given = [*columns.inputs, *columns.labels, *columns.targets, *filter(None, [columns.per_token, columns.id])]
        return list(dict.fromkeys(given))

    def first(self, part: Part) -> Rows:
        """Return the first batch of a part."""
        return next(self._rows(part))

    def chunks(self, name: str, part: Part) -> Iterator[Chunk]:
        """Yield a part's rows as chunks."""
        start = 0
        for rows in self._rows(part):
            arrays, more = self.reader.read(rows)
            stop = start + len(rows.numbers)
            ids = None if self.columns.id is None else tuple(identifiers(rows.column(self.columns.id)))
            texts = more if isinstance(more, tuple) else None
            targets = self._targets(name, rows, (arrays, more), slice(start, stop))
            yield Chunk(arrays[0], targets, texts, tuple(arrays[1:]), ids)
            start = stop

    def ids(self, part: Part) -> Iterator[str]:
        """Yield the identifiers of a part's rows."""
        for batch, _, _ in rows_of(part, self.table, [str(self.columns.id)]):
            yield from identifiers(batch.column(0))

    def _rows(self, part: Part) -> Iterator[Rows]:
        for batch, numbers, origin in rows_of(part, self.table, self.read_columns):
            yield Rows(batch, numbers, origin)

    def _targets(self, name: str, rows: Rows, read: tuple[Arrays, Any], some: slice) -> NDArray[Any]:
        arrays, more = read
        if isinstance(self.reader, Own):
            return self._checked(more, rows)
        if self.columns.per_token is not None:
            given = self.columns.per_token, self.columns.inputs, arrays, self.ignore_index
            return token_targets(rows, *given, required=name == self.train)
        if self.labels is not None:
            return self.labels[name][some]
        if self.columns.targets:
            return numbers_of(rows, self.columns.targets)
        found = numbers_of(rows, self.columns.labels)
        wrong = (found != 0) & (found != 1)
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise DataError(
                f"expected 0 or 1 in each of several columns of labels, found {found[row, column]:g} in column "
                f"{self.columns.labels[column]!r} in {rows.place(row)}; for numbers set data.target_columns"
            )
        return found

    def _checked(self, targets: NDArray[Any], rows: Rows) -> NDArray[Any]:
        """Return targets of a task's own reader; DataError for a class number that is no class."""
        if targets.ndim == 1 and targets.dtype == np.int64 and self.class_names:
            wrong = (targets < 0) | (targets >= len(self.class_names))
            if wrong.any():
                row = int(wrong.argmax())
                raise DataError(
                    f"expected class numbers from 0 to {len(self.class_names) - 1} from read of the task, found "
                    f"{targets[row]} for {rows.place(row)}; correct read, or name all classes by data.class_names"
                )
        return targets


def _table(source: Store, files: Sequence[TableFile], reading: Reading) -> Table:
    """Return the table of the files that are used: those of the parts that are asked for."""
    config = reading.config
    train, test = config.part_names
    if config.split_column is not None:
        return open_table(source, [replace(file, part=None) for file in files])
    there = list(dict.fromkeys(file.part for file in files))
    if config.hold_out is not None:
        if test in there:
            raise DataError(
                f"expected no part {test!r} in {source.describe()} beside data.hold_out, found one; leave "
                f"data.hold_out out, or name the other part by data.test"
            )
        used = [file for file in files if file.part in (train, None)]
    else:
        lacking = [part for part in reading.parts if part not in there]
        if lacking:
            named = ", ".join(str(part) for part in there if part is not None)
            raise DataError(
                f"expected a part {lacking[0]!r} in {source.describe()}, found {named or 'one table'}; name the parts "
                f"by data.train and data.test, the column that tells them by data.split_column, or the share of a test "
                f"set by data.hold_out"
            )
        used = [file for part in reading.parts for file in files if file.part == part]
    if not used:
        raise DataError(f"expected files of {train!r} in {source.describe()}, found none; name the part by data.train")
    if used[0].kind == PICTURE and any(not file.below for file in used):
        wrong = next(file for file in used if not file.below)
        raise DataError(
            f"expected pictures in folders that name their class, found {source.describe(wrong.path)}; move it into one"
        )
    may_lack = [*config.label_columns] or ["label", "labels", "target", "class", "y"]
    return open_table(source, used, may_lack)


def _parts(table: Table, columns: Columns, reading: Reading) -> dict[str, Part]:
    config = reading.config
    train, test = config.part_names
    if config.hold_out is None and columns.split is None:
        return {name: survey(table, table.of(name), columns)[0] for name in reading.parts}
    whole, splits = survey(table, table.files, columns)
    if config.hold_out is not None:
        held = held_out(whole, config.hold_out)
        members = {train: ~held, test: held}
    else:
        given = np.array([str(value) for value in splits])
        members = {name: given == name for name in reading.parts}
    found = {name: replace(whole, member=member) for name, member in members.items()}
    for name, part in found.items():
        if not part.rows:
            raise DataError(
                f"expected rows of part {name!r} in {table.source.describe()}, found none"
                f"{f' among {sorted(set(map(str, splits)))[:8]}' if splits else ''}; correct data.train, data.test or "
                f"data.hold_out"
            )
    return found


def _classes(
    table: Table, columns: Columns, parts: Mapping[str, Part], reading: Reading
) -> tuple[tuple[str, ...], Mapping[str, NDArray[np.int64]] | None]:
    """Return the classes' names, none where targets are no classes, and the labels of each part."""
    label = columns.labels[0] if columns.is_class else None
    given, own = reading.config.class_names, hub_names(table.schema, label) if label else None
    given_by: NamesOf = "settings" if given else "data" if own else "checkpoint"
    names = given or own or reading.checkpoint_names()
    if columns.reader == OWN:
        counted = tuple(map(str, range(reading.class_count))) if reading.class_count else ()
        return names or counted, None
    if label is None:
        return (), None
    return classes_of(parts, reading.config.part_names[0], names, table, given_by)


def _subject(made: _Made, parts: Mapping[str, Part], reading: Reading, settings: dict[str, str]) -> Subject:
    config, columns, table = reading.config, made.columns, made.table
    first = made.first(parts[config.part_names[0]])
    inputs = made.reader.described(first)
    several = len(inputs) > 1 or (isinstance(made.reader, Own) and made.reader.is_tuple(first))
    target = made.reader.target(first) if isinstance(made.reader, Own) else _target(made, inputs)
    labels = made.labels or {}
    missing = sum(int((each == UNLABELLED).sum()) for each in labels.values())
    hold_out = None if config.hold_out is None else HoldOut(share=config.hold_out, seed=HOLD_OUT_SEED)
    provenance = Provenance(
        origin="a table of the user's",
        licence="that of the source",
        licence_url="",
        sources=tuple(file_receipt(table.source, file.path) for file in table.files),
        hold_out=hold_out,
        label_column=columns.labels[0] if columns.is_class else None,
        unlabelled=missing or None,
        reader=settings | ({"split": columns.split} if columns.split else {}),
    )
    return Subject(
        name=NAME,
        meaning="rows of a table, in the order of its files",
        input=inputs[0],
        more_inputs=tuple(inputs[1:]) if several else None,
        target=target,
        id_column=columns.id,
        class_names=() if target is not None else made.class_names,
        provenance=provenance,
    )


def _target(made: _Made, inputs: Sequence[InputDescription]) -> TargetDescription | None:
    columns = made.columns
    if made.labels is not None:
        return None
    if columns.per_token is not None:
        shape = inputs[0].shape
        return TargetDescription(column=TARGET_COLUMN, dtype="int64", shape=shape, names=(columns.per_token,))
    names = columns.targets or columns.labels
    return TargetDescription(column=TARGET_COLUMN, dtype="float32", shape=(len(names),), names=names)


def _every(table: Table, parts: Mapping[str, Part], columns: Sequence[str]) -> Iterator[Rows]:
    """Yield the rows of all parts with some columns."""
    for part in parts.values():
        for batch, numbers, origin in rows_of(part, table, columns):
            yield Rows(batch, numbers, origin)
