"""Writing a data set as Parquet files whose row groups are the smallest pieces of a shard."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.chunks import Chunk, Values, check, joined
from relatif.pipeline.datasets.description import (
    DATASET_JSON,
    FORMAT,
    ID_COLUMN,
    LABEL_COLUMN,
    DatasetDescription,
    PartDescription,
    Split,
    SplitDescription,
    Subject,
    ValuesDescription,
    read_description,
)
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.storage.parquet import TableWriter
from relatif.pipeline.storage.store import Store
from relatif.schemas.columns import TableSpec
from relatif.schemas.errors import DataError

ROWS_PER_FILE = 10_000
ROWS_PER_GROUP = 1_000

COMPRESSION_LEVEL = 12
"""For MNIST 4% larger than level 19 and read as fast, but written 15 times faster."""

Arrays = tuple[Values, NDArray[np.integer] | None]
"""Inputs [N, *shape] and labels [N]."""


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
        check(subject, split, chunk)
    return write_chunks(store, subject, chunks, rows_per_file=rows_per_file, rows_per_group=rows_per_group)


def write_chunks(
    store: Store,
    subject: Subject,
    splits: Mapping[Split, Iterable[Chunk]],
    *,
    rows_per_file: int = ROWS_PER_FILE,
    rows_per_group: int = ROWS_PER_GROUP,
    made_from: Mapping[Split, str] | None = None,
) -> DatasetDescription:
    """Write as ``write_dataset`` does, holding one chunk and one row group at a time; borders of chunks leave no trace.

    ``made_from`` is stored as it is. An error while a chunk is made ends the writing and leaves no file behind.
    """
    _remove(store)
    written: dict[Split, SplitDescription] = {}
    try:
        for split, chunks in splits.items():
            cut = (rows_per_file, rows_per_group)
            written[split] = write_split(store, subject, split, chunks, folder=split, cut=cut)
    except BaseException:
        for described in written.values():
            delete_split(store, described)
        raise
    return publish_description(store, subject, written, made_from)


def write_split(
    store: Store, subject: Subject, split: Split, chunks: Iterable[Chunk], *, folder: str, cut: tuple[int, int]
) -> SplitDescription:
    """Write the files of one part into a folder; ``cut`` is rows of a file and rows of a group.

    Raises as ``write_chunks``, and leaves no file behind then.
    """
    files: list[PartDescription] = []
    try:
        # One by one: those that are written are removed after an error.
        files.extend(_write_parts(store, split, subject, _groups(subject, split, chunks, cut), (folder, cut[0])))
    except BaseException:
        for part in files:
            store.delete(part.path)
        raise
    return SplitDescription(rows=sum(part.rows for part in files), files=tuple(files))


def delete_split(store: Store, described: SplitDescription) -> None:
    """Remove the files of a part."""
    for part in described.files:
        store.delete(part.path)


def publish_description(
    store: Store, subject: Subject, splits: Mapping[Split, SplitDescription], made_from: Mapping[Split, str] | None
) -> DatasetDescription:
    """Write ``dataset.json``, which makes the parts that are there a data set."""
    made = dict(made_from) if made_from else None
    description = DatasetDescription(**dict(subject), format=FORMAT, splits=dict(splits), made_from=made)
    store.publish_bytes(DATASET_JSON, description.model_dump_json(indent=1).encode() + b"\n")
    return description


def part_path(folder: str, number: int) -> str:
    """Return the path of a file in a part's folder by its number; the folder has the part's name, if nothing else."""
    return f"{folder}/part-{number:05d}.parquet"


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
    for described in there.splits.values():
        delete_split(store, described)


def _groups(subject: Subject, split: str, chunks: Iterable[Chunk], cut: tuple[int, int]) -> Iterator[Chunk]:
    """Yield the rows as row groups, none over the end of a file; ``cut`` is rows of a file and rows of a group."""
    rows_per_file, rows_per_group = cut
    held: list[Chunk] = []
    row = 0
    for chunk in chunks:
        check(subject, split, chunk)
        start = 0
        while start < len(chunk):
            size = min(rows_per_group, rows_per_file - row % rows_per_file)
            held.append(chunk.rows(start, start + size - sum(map(len, held))))
            start += len(held[-1])
            if sum(map(len, held)) == size:
                yield joined(held)
                row, held = row + size, []
    if held:
        yield joined(held)
    elif row == 0:
        raise DataError(f"expected at least 1 input of {subject.name}/{split}, found none; look at the source")


def _write_parts(
    store: Store, split: str, subject: Subject, groups: Iterator[Chunk], layout: tuple[str, int]
) -> Iterator[PartDescription]:
    """Write the row groups of a part; ``layout`` is the folder, and rows of a file."""
    folder, rows_per_file = layout
    spec = _table_spec(subject, split)
    metadata = {"dtype": subject.input.dtype, "shape": "x".join(map(str, subject.input.shape))}
    group = next(groups, None)
    for number in count():
        if group is None:
            return
        path = part_path(folder, number)
        sizes: list[int] = []
        with TableWriter(
            store, path, spec, metadata, row_group_rows=rows_per_file, compression_level=COMPRESSION_LEVEL
        ) as writer:
            while group is not None and sum(sizes) < rows_per_file:
                writer.write(_table(subject, spec, group))
                sizes.append(len(group))
                group = next(groups, None)
        receipt = writer.receipt
        yield PartDescription(
            path=path, rows=sum(sizes), row_groups=tuple(sizes), bytes=receipt.bytes, sha256=receipt.sha256
        )


def _table(subject: Subject, spec: TableSpec, chunk: Chunk) -> pa.Table:
    columns = [_fixed(*pair) for pair in zip(subject.inputs, chunk.all_inputs, strict=True)]
    if subject.target is None:
        columns.append(pa.array(chunk.labels, pa.int32(), mask=chunk.labels == UNLABELLED))
    else:
        columns.append(_fixed(subject.target, chunk.labels))
    columns += [pa.array(each, pa.string()) for each in (chunk.texts, chunk.ids) if each is not None]
    return pa.table(columns, names=spec.schema.names)


def _fixed(described: ValuesDescription, values: NDArray[Any]) -> pa.Array:
    stored = np.ascontiguousarray(values, described.stored)
    return pa.FixedSizeBinaryArray.from_buffers(described.arrow_type, len(stored), [None, pa.py_buffer(stored)])


def _table_spec(subject: Subject, split: str) -> TableSpec:
    may_lack = subject.target is None and split != "train" and subject.provenance.unlabelled is not None
    fields = [
        _field(each.column, each.arrow_type, f"values of one input, C order, {each.dtype}") for each in subject.inputs
    ]
    if subject.target is None:
        label = _field(LABEL_COLUMN, pa.int32(), "class or count that the data gives")
        fields.append(label.with_nullable(may_lack))
    else:
        target = f"values of one target, C order, {subject.target.dtype}"
        fields.append(_field(subject.target.column, subject.target.arrow_type, target))
    if subject.input.text_column is not None:
        fields.append(_field(subject.input.text_column, pa.string(), "the input as it was published"))
    if subject.id_column is not None:
        fields.append(_field(ID_COLUMN, pa.string(), f"identifier of the row: {subject.id_column} of the source"))
    return TableSpec(subject.name, subject.meaning, pa.schema(fields))


def _field(name: str, kind: pa.DataType, meaning: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"meaning": meaning, "unit": "1"})
