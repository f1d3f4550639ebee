"""Writing a data set as Parquet files whose row groups are the smallest pieces of a shard."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import (
    DATASET_JSON,
    FORMAT,
    LABEL_COLUMN,
    DatasetDescription,
    PartDescription,
    Split,
    SplitDescription,
    Subject,
    read_description,
)
from relatif.pipeline.datasets.label_column import LARGEST_LABEL, UNLABELLED
from relatif.pipeline.storage.parquet import TableWriter
from relatif.pipeline.storage.store import Store
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import DataError

ROWS_PER_FILE = 10_000
ROWS_PER_GROUP = 1_000

COMPRESSION_LEVEL = 12
"""For MNIST 4% larger than level 19 and read as fast, but written 15 times faster."""

Values = NDArray[np.uint8] | NDArray[np.float32]
"""Inputs, of the type that the subject names."""

Arrays = tuple[Values, NDArray[np.integer] | None]
"""Inputs [N, *shape] and labels [N]."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Consecutive rows: inputs [N, *shape], labels [N] and, where the subject has a text column, N texts.

    A test input without a label has UNLABELLED, if the subject's provenance counts such rows.
    """

    inputs: Values
    labels: NDArray[np.integer]
    texts: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def rows(self, start: int, stop: int) -> "Chunk":
        """Return the rows from ``start`` to ``stop`` (exclusive) that are there."""
        texts = None if self.texts is None else self.texts[start:stop]
        return Chunk(self.inputs[start:stop], self.labels[start:stop], texts)


def write_dataset(
    store: Store,
    subject: Subject,
    splits: Mapping[Split, Arrays],
    *,
    rows_per_file: int = ROWS_PER_FILE,
    rows_per_group: int = ROWS_PER_GROUP,
) -> DatasetDescription:
    """Write every split below ``<split>/`` in row order and, last, ``dataset.json``, in place of what was there.

    Test inputs may be without labels: None in their place, or a masked array. The same data gives the same bytes.
    Raises DataError where inputs and labels do not fit the subject.
    """
    subject, filled = _with_unlabelled(subject, splits)
    chunks = {split: [Chunk(*arrays)] for split, arrays in filled.items()}
    for split, (chunk,) in chunks.items():
        _check(subject, split, chunk)
    return write_chunks(store, subject, chunks, rows_per_file=rows_per_file, rows_per_group=rows_per_group)


def write_chunks(
    store: Store,
    subject: Subject,
    splits: Mapping[Split, Iterable[Chunk]],
    *,
    rows_per_file: int = ROWS_PER_FILE,
    rows_per_group: int = ROWS_PER_GROUP,
) -> DatasetDescription:
    """Write as ``write_dataset`` does, holding one chunk and one row group at a time; borders of chunks leave no trace.

    An error while a chunk is made ends the writing and leaves no file behind.
    """
    _remove(store)
    files: dict[Split, list[PartDescription]] = {}
    try:
        for split, chunks in splits.items():
            groups = _groups(subject, split, chunks, (rows_per_file, rows_per_group))
            files[split] = []
            for part in _write_parts(store, split, subject, groups, rows_per_file):
                files[split].append(part)
    except BaseException:
        for part in (part for parts in files.values() for part in parts):
            store.delete(part.path)
        raise
    written = {
        split: SplitDescription(rows=sum(part.rows for part in parts), files=tuple(parts))
        for split, parts in files.items()
    }
    description = DatasetDescription(**dict(subject), format=FORMAT, splits=written)
    store.publish_bytes(DATASET_JSON, description.model_dump_json(indent=1).encode() + b"\n")
    return description


def part_path(split: str, number: int) -> str:
    """Return the path of a split's file by its number."""
    return f"{split}/part-{number:05d}.parquet"


def _with_unlabelled(
    subject: Subject, splits: Mapping[Split, Arrays]
) -> tuple[Subject, dict[Split, tuple[Values, NDArray[np.integer]]]]:
    """Return arrays in which UNLABELLED stands for missing labels, and the subject that counts those."""
    filled: dict[Split, tuple[Values, NDArray[np.integer]]] = {}
    missing = 0
    for split, (inputs, labels) in splits.items():
        given = np.ma.masked_all(len(inputs), np.int64) if labels is None else np.ma.asarray(labels)
        masked = np.ma.getmaskarray(given)
        if masked.any() and (split != "test" or given.dtype.kind != "i" or bool((given.compressed() < 0).any())):
            raise DataError(
                f"expected signed whole numbers from 0 as labels, none of them missing but in the test set, found "
                f"others in {subject.name}/{split}; look at the source"
            )
        missing += int(masked.sum())
        filled[split] = (inputs, given.filled(UNLABELLED) if masked.any() else given.data)
    provenance = subject.provenance.model_copy(update={"unlabelled": missing or None})
    return subject.model_copy(update={"provenance": provenance}), filled


def _remove(store: Store) -> None:
    try:
        there = read_description(store)
    except DataError:
        return
    store.delete(DATASET_JSON)  # first: without it, what is left proves nothing
    for split in there.splits.values():
        for part in split.files:
            store.delete(part.path)


def _check(subject: Subject, split: str, chunk: Chunk) -> None:
    inputs, labels = chunk.inputs, chunk.labels
    classes = len(subject.class_names)
    if inputs.dtype != subject.input.dtype or inputs.shape[1:] != subject.input.shape:
        raise DataError(
            f"expected inputs of {subject.name}/{split} as {subject.input.dtype} of shape {subject.input.shape}, "
            f"found {inputs.dtype} of shape {inputs.shape[1:]}; look at the source"
        )
    if len(inputs) == 0 or labels.shape != (len(inputs),):
        raise DataError(
            f"expected one label for each of at least 1 input of {subject.name}/{split}, "
            f"found {len(inputs)} inputs and {labels.size} labels; look at the source"
        )
    # Without class names labels are counts, of any size that the column holds.
    highest = classes - 1 if classes else LARGEST_LABEL
    lowest = UNLABELLED if split == "test" and subject.provenance.unlabelled is not None else 0
    if labels.dtype.kind not in "iu" or labels.min() < lowest or labels.max() > highest:
        raise DataError(
            f"expected labels of {subject.name}/{split} that are whole numbers from 0 to {highest}, "
            f"found {labels.dtype} from {labels.min()} to {labels.max()}; look at the source (for test inputs without "
            f"a label give None in place of labels, or a masked array)"
        )
    if inputs.dtype.kind == "f" and not (finite := np.isfinite(inputs)).all():
        raise DataError(
            f"expected finite inputs of {subject.name}/{split}, found {inputs[~finite][0]}; look at the source"
        )
    if (chunk.texts is None) != (subject.input.text_column is None) or len(chunk.texts or inputs) != len(inputs):
        found = "none" if chunk.texts is None else str(len(chunk.texts))
        raise DataError(
            f"expected {'no texts' if subject.input.text_column is None else f'{len(inputs)} texts'} "
            f"for {subject.name}/{split}, found {found}; look at the source"
        )


def _groups(subject: Subject, split: str, chunks: Iterable[Chunk], cut: tuple[int, int]) -> Iterator[Chunk]:
    """Yield the rows as row groups, none over the end of a file; ``cut`` is rows of a file and rows of a group."""
    rows_per_file, rows_per_group = cut
    held: list[Chunk] = []
    row = 0
    for chunk in chunks:
        _check(subject, split, chunk)
        start = 0
        while start < len(chunk):
            size = min(rows_per_group, rows_per_file - row % rows_per_file)
            held.append(chunk.rows(start, start + size - sum(map(len, held))))
            start += len(held[-1])
            if sum(map(len, held)) == size:
                yield _joined(held)
                row, held = row + size, []
    if held:
        yield _joined(held)
    elif row == 0:
        raise DataError(f"expected at least 1 input of {subject.name}/{split}, found none; look at the source")


def _joined(chunks: list[Chunk]) -> Chunk:
    texts = [chunk.texts for chunk in chunks if chunk.texts is not None]
    return Chunk(
        np.concatenate([chunk.inputs for chunk in chunks]),
        np.concatenate([chunk.labels for chunk in chunks]),
        tuple(text for part in texts for text in part) if texts else None,
    )


def _write_parts(
    store: Store, split: str, subject: Subject, groups: Iterator[Chunk], rows_per_file: int
) -> Iterator[PartDescription]:
    spec = _table_spec(subject, split)
    metadata = {"dtype": subject.input.dtype, "shape": "x".join(map(str, subject.input.shape))}
    group = next(groups, None)
    for number in count():
        if group is None:
            return
        path = part_path(split, number)
        sizes: list[int] = []
        with TableWriter(
            store, path, spec, metadata, row_group_rows=rows_per_file, compression_level=COMPRESSION_LEVEL
        ) as writer:
            while group is not None and sum(sizes) < rows_per_file:
                writer.write(_table(spec, group, subject.input.stored))
                sizes.append(len(group))
                group = next(groups, None)
        receipt = writer.receipt
        yield PartDescription(
            path=path, rows=sum(sizes), row_groups=tuple(sizes), bytes=receipt.bytes, sha256=receipt.sha256
        )


def _table(spec: TableSpec, chunk: Chunk, stored: np.dtype[Any]) -> pa.Table:
    values = np.ascontiguousarray(chunk.inputs, stored)
    inputs = pa.FixedSizeBinaryArray.from_buffers(spec.schema.field(0).type, len(values), [None, pa.py_buffer(values)])
    columns = [inputs, pa.array(chunk.labels, pa.int32(), mask=chunk.labels == UNLABELLED)]
    if chunk.texts is not None:
        columns.append(pa.array(chunk.texts, pa.string()))
    return pa.table(columns, names=spec.schema.names)


def _table_spec(subject: Subject, split: str) -> TableSpec:
    image = {"meaning": f"values of one input, C order, {subject.input.dtype}", "unit": "1"}
    label = {"meaning": "class or count that the data gives", "unit": "1"}
    may_lack = split == "test" and subject.provenance.unlabelled is not None
    fields = [
        pa.field(subject.input.column, pa.binary(subject.input.row_bytes), nullable=False, metadata=image),
        pa.field(LABEL_COLUMN, pa.int32(), nullable=may_lack, metadata=label),
    ]
    if subject.input.text_column is not None:
        text = {"meaning": "the input as it was published", "unit": "1"}
        fields.append(pa.field(subject.input.text_column, pa.string(), nullable=False, metadata=text))
    return TableSpec(subject.name, subject.meaning, pa.schema(fields))
