"""Prepared data sets and their shards: contiguous ranges of rows made of whole row groups.

Axes: N examples of a shard; the rest is the input's shape.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby, islice

import numpy as np
import pyarrow as pa
import torch

from relatif.pipeline.datasets.description import (
    ID_COLUMN,
    LABEL_COLUMN,
    DatasetDescription,
    Split,
    SplitDescription,
    read_description,
)
from relatif.pipeline.datasets.label_column import UNLABELLED, allowed_labels, read_labels
from relatif.pipeline.datasets.labels import PUBLISHED, Labelling
from relatif.pipeline.datasets.stored_columns import ShardPiece, fill, read_as, read_pieces, room
from relatif.pipeline.datasets.verifying import stored_columns, verify_files
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.inputs import rows as rows_of
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError, DataError

ROLES = ("train", "test")
"""What parts of the data are used for, and how they are called where nothing else is said."""


@dataclass(frozen=True)
class Chosen:
    """Rows of a split, rising, that alone are read of pieces whose first row is ``start``."""

    start: int
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """Rows ``start`` to ``stop`` (exclusive) of a split, the ``index``-th shard of it.

    With ``chosen`` they are positions among the rows that were chosen of the split, which then alone are read.
    """

    split: Split
    index: int
    start: int
    stop: int
    pieces: tuple[ShardPiece, ...]
    chosen: Chosen | None = None

    @property
    def rows(self) -> int:
        """Number of rows N."""
        return self.stop - self.start

    @property
    def whole(self) -> "Shard":
        """The shard of all rows of its pieces, as they lie in the split."""
        if self.chosen is None:
            return self
        stop = self.chosen.start + sum(piece.rows for piece in self.pieces)
        return replace(self, start=self.chosen.start, stop=stop, chosen=None)

    @property
    def places(self) -> list[int]:
        """The places of its rows among those of ``whole``."""
        if self.chosen is None:
            return list(range(self.rows))
        return [row - self.chosen.start for row in self.chosen.rows]


@dataclass(frozen=True, eq=False)
class StoredExamples:
    """Rows from ``start`` on: inputs [N, *shape], of the types that the data set says, and labels int64 [N].

    ``labels`` are the targets, whatever they are.
    """

    inputs: Inputs
    labels: torch.Tensor
    start: int

    @property
    def targets(self) -> torch.Tensor:
        """Return the targets: ``labels`` by the name that fits those that are no classes."""
        return self.labels


@dataclass(frozen=True)
class PreparedDataset:
    """A data set whose files exist, and its labelling; it holds no rows and no address, so it is cheap to send.

    ``parts`` are pairs: ``train`` or ``test``, and the name of the part of the data that is taken for it. ``ids`` read
    the identifiers of parts whose first rows alone are there.
    """

    description: DatasetDescription
    labelling: Labelling = PUBLISHED
    parts: tuple[tuple[str, str], ...] = ()
    ids: Mapping[Split, Callable[[], Iterator[str]]] = field(default_factory=dict, compare=False)

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.description.name

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, the first where there are several."""
        return self.description.input.shape

    @property
    def input_numbers(self) -> int:
        """Number of values that a model reads of one example."""
        return sum(each.numbers for each in self.description.inputs)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label after merging."""
        return self.labelling.class_names(self.description.class_names)

    def class_name(self, label: int | None) -> str:
        """Return the name of a class; a model of the published classes may also predict one that merging left empty.

        Labels of data without classes are counts, which are their own names. A test input may have no label.
        """
        if label is None or label == UNLABELLED:
            return "no label"
        if not self.class_names:
            return str(label)
        return self.class_names[label] if label < len(self.class_names) else f"no class ({label})"

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that decides the content and its row groups, the same at every address."""
        return self.description.fingerprint

    def part_fingerprint(self, split: Split) -> str:
        """SHA-256 (hex) of the content of one part; DataError where the data set has no such part."""
        self._split(split)
        return self.description.part_fingerprint(dict(self.parts).get(split, split))

    def rows(self, split: Split) -> int:
        """Number of rows of a split; DataError where the data set has no such split."""
        return self._split(split).rows

    def _split(self, split: Split) -> SplitDescription:
        name = dict(self.parts).get(split, split)
        if name not in self.description.splits:
            raise DataError(
                f"expected a part {name!r} in data set {self.name}, found {', '.join(self.description.splits)}; "
                f"name one of them by data.{split if split in ROLES else 'scored'}, or prepare the data set with it"
            )
        return self.description.splits[name]

    def shards(self, split: Split, *, rows: int, limit: int | None = None) -> tuple[Shard, ...]:
        """Cut the first ``limit`` rows (default: all) into shards.

        Each is the longest run of whole row groups of at most ``rows`` rows, and at least one row group; ``limit``
        shortens the last one and moves no border. Raises ConfigurationError for a limit beyond the split.
        """
        available = self.rows(split)
        stop = available if limit is None else limit
        if rows < 1 or not 1 <= stop <= available:
            raise ConfigurationError(
                f"expected a limit from 1 to the {available} rows of {self.name}/{split} and shards of at least 1 row, "
                f"found limit {stop} and {rows} rows; set them within these bounds or drop them"
            )
        runs = _runs(self._row_groups(split), rows)
        shards: list[Shard] = []
        start = 0
        for run in runs:
            if start >= stop:
                break
            shards.append(_shard(split, len(shards), start, run, stop))
            start = shards[-1].stop
        return tuple(shards)

    def _row_groups(self, split: Split) -> Iterator[ShardPiece]:
        for part in self._split(split).files:
            for row_group, count in enumerate(part.row_groups):
                yield ShardPiece(part.path, row_group, count)


def open_dataset(store: Store) -> PreparedDataset:
    """Return the prepared data set at ``store``.

    Raises DataError where ``dataset.json`` is missing or damaged, and what ``verify_files`` raises.
    """
    description = read_description(store)
    verify_files(store, description)
    return PreparedDataset(description)


def read_shard(store: Store, dataset: PreparedDataset, shard: Shard) -> StoredExamples:
    """Read a shard's rows, verifying the checksum of every page; labels are those of the data set's labelling.

    A test input without a label has UNLABELLED. Raises DataError, naming the file, where it is damaged or not the one
    that was described, and naming the row too for a label outside the classes or a value that is not finite.
    """
    if shard.chosen is not None:
        every = read_shard(store, dataset, shard.whole)
        return StoredExamples(rows_of(every.inputs, shard.places), every.labels[shard.places], shard.start)
    described = dataset.description
    inputs, targets = [room(shard.rows, each) for each in described.inputs], room(shard.rows, described.target)
    row = 0
    for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file):
        origin = f"{store.describe(path)} (rows as in {shard.split})"
        for batch in read_pieces(store, path, tuple(pieces), stored_columns(described)).to_batches():
            stop = row + batch.num_rows
            for place, (into, each) in enumerate(zip(inputs, described.inputs, strict=True)):
                fill(into[row:stop], batch.column(place), each, origin, shard.start + row)
            if described.target is None:
                allowed = allowed_labels(described, shard.split)
                labels = read_labels(batch.column(len(inputs)), allowed, origin, shard.start + row)
                targets[row:stop].numpy()[:] = labels
            else:
                fill(targets[row:stop], batch.column(len(inputs)), described.target, origin, shard.start + row)
            row = stop
    shaped = [read_as(each, values) for each, values in zip(described.inputs, inputs, strict=True)]
    if described.target is None:
        classes = len(dataset.class_names)
        targets = dataset.labelling.seen(targets, shard.split, first_row=shard.start, class_count=classes)
    return StoredExamples(described.formed(shaped), targets, shard.start)


def read_published_labels(store: Store, shard: Shard) -> torch.Tensor:
    """Return a shard's labels as the data gives them, not merged or flipped, int64 [N]; raises as ``read_shard``."""
    labels = [
        read_pieces(store, path, tuple(pieces), [(LABEL_COLUMN, pa.int32())])[LABEL_COLUMN]
        .fill_null(UNLABELLED)
        .to_numpy()
        for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file)
    ]
    return torch.from_numpy(np.concatenate(labels).astype(np.int64))


def read_shard_texts(store: Store, dataset: PreparedDataset, shard: Shard) -> list[str]:
    """Return the texts of a shard's inputs, before they were encoded.

    Raises DataError where the data set has no texts, or a file is damaged or not the one that was described.
    """
    column = dataset.description.input.text_column
    if column is None:
        raise DataError(
            f"expected a column of texts in data set {dataset.name} at {store.describe()}, found none described; "
            f"prepare the data set with one"
        )
    return _strings(store, shard, column)


def read_shard_ids(store: Store, dataset: PreparedDataset, shard: Shard) -> list[str] | None:
    """Return the user's identifiers of a shard's rows, None where the data has none; raises as ``read_shard``."""
    return None if dataset.description.id_column is None else _strings(store, shard, ID_COLUMN)


def read_ids(store: Store, dataset: PreparedDataset, split: Split, limit: int) -> Iterator[str]:
    """Yield the user's identifiers of a split's first ``limit`` rows, which have some; raises as ``read_shard``."""
    known = dataset.ids.get(dict(dataset.parts).get(split, split))
    if known is not None:
        yield from islice(known(), limit)
        return
    for shard in dataset.shards(split, rows=10_000, limit=limit):
        yield from read_shard_ids(store, dataset, shard) or ()


def _strings(store: Store, shard: Shard, column: str) -> list[str]:
    found: list[str] = []
    for path, pieces in groupby(shard.pieces, key=lambda piece: piece.file):
        found += read_pieces(store, path, tuple(pieces), [(column, pa.string())])[column].to_pylist()
    return [found[place] for place in shard.places]


def _runs(groups: Iterator[ShardPiece], rows: int) -> Iterator[list[ShardPiece]]:
    run: list[ShardPiece] = []
    held = 0
    for group in groups:
        if run and held + group.rows > rows:
            yield run
            run, held = [], 0
        run.append(group)
        held += group.rows
    yield run


def _shard(split: Split, index: int, start: int, run: list[ShardPiece], limit: int) -> Shard:
    pieces: list[ShardPiece] = []
    stop = start
    for piece in run:
        if stop < limit:
            pieces.append(ShardPiece(piece.file, piece.row_group, min(piece.rows, limit - stop)))
            stop += pieces[-1].rows
    return Shard(split, index, start, stop, tuple(pieces))
