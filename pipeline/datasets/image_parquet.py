"""Image-classification data sets in Parquet, as data set hubs publish them: encoded images and class numbers.

Images become uint8 [channels, rows, columns] with one channel (grey) or three (red, green, blue), in the order of the
files' rows. The pixels of a JPEG are those of the installed pillow: another version may round some of them differently.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from relatif.pipeline.console import say
from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Split, Subject
from relatif.pipeline.datasets.image_columns import (
    IMAGE_COLUMNS,
    ImageColumns,
    ImageForm,
    decode_images,
    find_columns,
    image_form,
)
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.datasets.preparing import MadeAnew, Published, file_receipt
from relatif.pipeline.datasets.provenance import Provenance
from relatif.pipeline.datasets.shard_names import shards_in_order, split_of
from relatif.pipeline.datasets.writing import ROWS_PER_GROUP
from relatif.pipeline.storage.parquet import FETCH_AGAIN, whole_parquet
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError

NAME = "image_parquet"
FOLDERS = ("", "data", "plain_text", "default")
"""Folders in which hubs put the files; the first that has any is taken."""

DECODED_ROWS, DECODED_BYTES = 256, 8 * 2**20
"""Upper limits of the images that are decoded at once and of their bytes; a single larger image is decoded alone."""

ROWS_OF_A_BYTE = 100
"""More rows than this for each byte of a file are no images, but a file made to fill the memory."""

READ_BYTES = 2**20
"""How much of a file's column is read at once."""

ROW_GROUP_BYTES = 64 * 2**20
"""Largest row group of large images: memory holds one, decoded."""

_SPLITS: tuple[Split, ...] = ("train", "test")


@dataclass(frozen=True, eq=False)
class _Part:
    """A file, its columns and its labels int64 [N], UNLABELLED for a test input without one."""

    path: str
    columns: ImageColumns
    labels: NDArray[np.int64]


def is_image_parquet(source: Store) -> bool:
    """Return whether a Parquet file named train or test is there."""
    return _folder(source) is not None


def holds_image_column(source: Store) -> bool:
    """Return whether the files of a data set are of images, by the columns of one that can be read."""
    folder = _folder(source)
    for path in source.list(folder or "", ".parquet"):
        if split_of(path) is not None:
            try:
                with _opened(source, path) as parquet:
                    return bool(set(IMAGE_COLUMNS) & set(parquet.schema_arrow.names))
            except DataError:
                continue  # reading the data set will say what is wrong with the file
    return True


def read_image_parquet(source: Store, label_column: str | None = None) -> Published:
    """Read image-classification Parquet, all of its labels at once; images are decoded when their chunk is taken.

    ``label_column`` chooses the column of labels where there are several; test inputs may be without a label.

    Each split is ``train.parquet`` or shards ``train-*.parquet``, by name, in ``source`` or one of FOLDERS below it.
    Raises DataError, naming the file and the row, for a missing, damaged or differing one.
    """
    folder = _folder(source)
    listed, where = source.list(folder or "", ".parquet"), source.describe(folder or "")
    paths = {split: shards_in_order(listed, split, where) for split in _SPLITS}
    parts = {split: [_read_part(source, path, split, label_column) for path in paths[split]] for split in _SPLITS}
    every = [part for split in _SPLITS for part in parts[split]]
    names = _class_names(source, every)
    _tell_choice(every[0].columns, np.concatenate([part.labels for part in parts["test"]]))
    _require_rows(source, parts)
    form = _first_form(source, next(part for part in every if len(part.labels)))
    sources = tuple(file_receipt(source, part.path) for part in every)
    _require_different(source, parts, {receipt.path: receipt.sha256 for receipt in sources})
    subject = Subject(
        name=NAME,
        meaning="images, one row each in the order of the published files",
        input=InputDescription(column="image", dtype="uint8", shape=form.shape, axes=("channel", "row", "column")),
        class_names=names,
        provenance=Provenance(
            origin="image-classification Parquet",
            licence="that of the source",
            licence_url="",
            sources=sources,
            label_column=every[0].columns.label if label_column or every[0].columns.others else None,
            unlabelled=sum(int((part.labels == UNLABELLED).sum()) for part in parts["test"]) or None,
        ),
    )
    chunks = {split: MadeAnew(partial(_chunks, source, parts[split], form)) for split in _SPLITS}
    rows_per_group = max(1, min(ROWS_PER_GROUP, ROW_GROUP_BYTES // math.prod(form.shape)))
    rows = {split: sum(len(part.labels) for part in parts[split]) for split in _SPLITS}
    files = {split: tuple(part.path for part in parts[split]) for split in _SPLITS}
    return Published(subject, chunks, rows, rows_per_group, files)


def _folder(source: Store) -> str | None:
    return next((folder for folder in FOLDERS if any(split_of(path) for path in source.list(folder, ".parquet"))), None)


def _opened(source: Store, path: str) -> AbstractContextManager[pq.ParquetFile]:
    # Read page by page: hubs also publish files that are a single large row group.
    return whole_parquet(source, path, FETCH_AGAIN, pre_buffer=False, buffer_size=READ_BYTES)


def _read_part(source: Store, path: str, split: Split, label_column: str | None) -> _Part:
    origin = source.describe(path)
    with _opened(source, path) as parquet:
        columns = find_columns(parquet.schema_arrow, origin, label_column, may_lack_labels=split == "test")
        rows, size = parquet.metadata.num_rows, source.size(path) or 0
        if rows > ROWS_OF_A_BYTE * size:
            raise DataError(
                f"expected at most {ROWS_OF_A_BYTE} rows for each byte of {origin}, found {rows} in {size} bytes; "
                f"give a file of images"
            )
        if columns.label is None:
            return _Part(path, columns, np.full(rows, UNLABELLED))
        column = parquet.read(columns=[columns.label], use_threads=False).column(0)
    return _Part(path, columns, _labels(column, f"{columns.label} of {origin}", may_lack=split == "test"))


def _labels(column: pa.ChunkedArray, origin: str, *, may_lack: bool) -> NDArray[np.int64]:
    missing = np.asarray(column.is_null())
    if missing.any() and not may_lack:
        raise DataError(
            f"expected a label in every row of {origin}, found none in row {missing.argmax()}; fill it in or drop the "
            f"row"
        )
    try:
        labels: NDArray[np.int64] = column.cast(pa.int64()).fill_null(UNLABELLED).to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"expected class numbers in {origin}, found {error}; write whole numbers from 0") from error
    wrong = (labels < 0) & ~missing
    if wrong.any():
        raise DataError(
            f"expected labels from 0 in {origin}, found {labels[wrong][0]} in row {wrong.argmax()}; correct the label "
            f"or drop the row (a test input without a label has null)"
        )
    return labels


def _tell_choice(columns: ImageColumns, test_labels: NDArray[np.int64]) -> None:
    """Say what a reader of the files might not expect: which labels are taken, and that some are missing."""
    missing = int((test_labels == UNLABELLED).sum())
    if missing:
        say(f"labels: {missing} of {len(test_labels)} test inputs have none; what the model predicts can be explained")
    if columns.others:
        say(
            f"labels: {columns.label}; {', '.join(columns.others)} is there too, which data.label_column (relatif "
            f"prepare --label-column) takes in its place"
        )


def _require_different(source: Store, parts: Mapping[Split, Sequence[_Part]], contents: Mapping[str, str]) -> None:
    """Refuse two files of a split with the same rows: a copy under another name, which would count twice."""
    for files in parts.values():
        seen: dict[str, str] = {}
        for part in (part for part in files if len(part.labels)):
            twin = seen.setdefault(contents[part.path], part.path)
            if twin != part.path:
                raise DataError(
                    f"expected different contents in {source.describe(twin)} and {source.describe(part.path)}, "
                    f"found the same; give the right files"
                )


def _require_rows(source: Store, parts: Mapping[Split, Sequence[_Part]]) -> None:
    for split, files in parts.items():
        if not sum(len(part.labels) for part in files):
            origin = ", ".join(source.describe(part.path) for part in files)
            raise DataError(f"expected at least 1 row of {split} in {origin}, found none; give the right files")


def _class_names(source: Store, parts: Sequence[_Part]) -> tuple[str, ...]:
    """Return the classes' names, after all files have been found to agree with each other and with their labels."""
    first = parts[0]
    for part in parts:
        without = part.columns.label is None and part.columns.image == first.columns.image
        if part.columns != first.columns and not without:
            raise DataError(
                f"expected the same columns and classes in {source.describe(part.path)} as in "
                f"{source.describe(first.path)}, found {part.columns} and {first.columns}; "
                f"give files that belong together"
            )
    rows = sum(len(part.labels) for part in parts)
    names = first.columns.class_names
    # Without names the labels count the classes: there are no more classes than rows.
    limit = rows if names is None else len(names)
    for part in parts:
        wrong = np.flatnonzero(part.labels >= limit)
        if wrong.size:
            raise DataError(
                f"expected labels from 0 to {limit - 1} in {source.describe(part.path)}, "
                f"found {part.labels[wrong[0]]} in row {wrong[0]}; correct the label or drop the row"
            )
    if names is not None:
        return names
    return tuple(map(str, range(1 + max(int(part.labels.max(initial=0)) for part in parts))))


def _first_form(source: Store, part: _Part) -> ImageForm:
    origin = source.describe(part.path)
    for encoded, _ in _encoded(source, part, rows=1):
        return image_form(encoded[0], f"row 0 of {origin}")
    raise DataError(f"expected at least 1 row in {origin}, found none; give the right file")


def _encoded(source: Store, part: _Part, *, rows: int) -> Iterator[tuple[list[bytes | None], int]]:
    """Yield the encoded images in batches, each with the number of its first row."""
    start = 0
    with _opened(source, part.path) as parquet:
        for batch in parquet.iter_batches(batch_size=rows, columns=[f"{part.columns.image}.bytes"], use_threads=False):
            yield pc.struct_field(batch.column(0), "bytes").to_pylist(), start
            start += batch.num_rows


def _chunks(source: Store, parts: Sequence[_Part], form: ImageForm) -> Iterator[Chunk]:
    rows = max(1, min(DECODED_ROWS, DECODED_BYTES // math.prod(form.shape)))
    for part in parts:
        origin = source.describe(part.path)
        for encoded, start in _encoded(source, part, rows=rows):
            images = decode_images(encoded, form, origin, start)
            yield Chunk(images, part.labels[start : start + len(images)])
