"""What examples look like: pictures, texts or rows, read from the prepared data for the rows that a page shows.

Axes: R rows that are shown.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from relatif.pipeline.datasets.description import DatasetDescription, InputDescription, Split
from relatif.pipeline.datasets.shards import PreparedDataset, Shard
from relatif.pipeline.datasets.stored_columns import read_pieces
from relatif.pipeline.datasets.tables.columns import number_columns
from relatif.pipeline.report.page.sprites import Tile, reduced, tile_size
from relatif.pipeline.storage.store import Store

Kind = Literal["image", "text", "row", "none"]

SHARD_ROWS = 2000
LONGEST_TEXT = 500
"""Letters of a text that the page holds."""

MOST_COLUMNS = 30
"""Columns of a row that the page holds."""

SMALLEST_SIDE = 4
"""A grid of bytes with shorter sides is no picture."""

IMAGE_AXES = ("channel", "row", "column")


@dataclass(frozen=True)
class Look:
    """How a data set's examples are shown: ``kind``, and the columns of a row by name."""

    kind: Kind
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Media:
    """What rows look like, in the order in which they were asked for; None where it is another kind."""

    tiles: list[Tile] = field(default_factory=list)
    texts: list[str] | None = None
    rows: list[list[float | int | bool]] | None = None


def look_of(description: DatasetDescription, names: Sequence[str] | None = None) -> Look:
    """Return how examples are shown; ``names`` are the columns that the settings name, where they do."""
    first = description.input
    if first.text_column is not None or first.vocabulary is not None:
        return Look("text")
    if _is_picture(first):
        return Look("image")
    if all(len(each.shape) == 1 and _is_row(each) for each in description.inputs):
        count = sum(each.numbers for each in description.inputs)
        own = number_columns(description.provenance.reader, count, names)
        return Look("row", (own or tuple(f"x{place + 1}" for place in range(count)))[:MOST_COLUMNS])
    return Look("none")


def _is_row(described: InputDescription) -> bool:
    return described.dtype in ("float32", "bool", "uint8")


def _is_picture(described: InputDescription) -> bool:
    if described.axes == IMAGE_AXES:
        return described.shape[0] in (1, 3)
    grid = described.axes in (None, IMAGE_AXES[1:]) and len(described.shape) == 2
    return grid and described.dtype == "uint8" and min(described.shape) >= SMALLEST_SIDE


def read_media(store: Store, dataset: PreparedDataset, split: Split, rows: Sequence[int], look: Look) -> Media:
    """Return what rows of a split look like; each file's row groups with such rows are read once.

    Raises as ``read_pieces``.
    """
    if look.kind == "none":
        return Media()
    read = {"image": _tiles, "text": _texts, "row": _rows}[look.kind](dataset.description)
    wanted = np.unique(np.asarray(rows, np.int64))
    found: dict[int, Any] = {}
    for shard in dataset.shards(split, rows=SHARD_ROWS):
        here = wanted[np.searchsorted(wanted, shard.start) : np.searchsorted(wanted, shard.stop)]
        if len(here):
            table = _read(store, shard, read.columns, here - shard.start)
            found.update(zip(here.tolist(), read.shown(table), strict=True))
    shown = [found[row] for row in rows]
    return {"image": Media(tiles=shown), "text": Media(texts=shown), "row": Media(rows=shown)}[look.kind]


@dataclass(frozen=True)
class _Reader:
    """The columns that are read of a file, and what they are shown as."""

    columns: list[tuple[str, pa.DataType]]
    shown: Callable[[pa.Table], list[Any]]


def _read(store: Store, shard: Shard, columns: list[tuple[str, pa.DataType]], places: NDArray[np.int64]) -> pa.Table:
    """Return some rows of a shard; those of one file at a time are held."""
    parts, start = [], 0
    for path, group in groupby(shard.pieces, key=lambda piece: piece.file):
        pieces = tuple(group)
        stop = start + sum(piece.rows for piece in pieces)
        here = places[(places >= start) & (places < stop)] - start
        if len(here):
            parts.append(read_pieces(store, path, pieces, columns).take(pa.array(here)))
        start = stop
    return pa.concat_tables(parts)


def _tiles(description: DatasetDescription) -> _Reader:
    described = description.input
    height, width = described.shape[-2:]
    size = tile_size(height, width)

    def shown(table: pa.Table) -> list[Tile]:
        return [reduced(_pixels(values, described), size) for values in _values(table, described)]

    return _Reader([(described.column, described.arrow_type)], shown)


def _pixels(values: NDArray[Any], described: InputDescription) -> Tile:
    """Return one picture as bytes, [rows, columns] or [rows, columns, 3]; numbers from their lowest to highest."""
    if described.dtype != "uint8":
        low, high = float(values.min()), float(values.max())
        values = np.round((values - low) * (255 / (high - low) if high > low else 0.0)).astype(np.uint8)
    if values.ndim == 2:
        return values
    return values[0] if len(values) == 1 else np.ascontiguousarray(values.transpose(1, 2, 0))


def _texts(description: DatasetDescription) -> _Reader:
    described = description.input
    if described.text_column is not None:
        column = described.text_column
        return _Reader([(column, pa.string())], lambda table: [text[:LONGEST_TEXT] for text in _strings(table, column)])
    letters = "\0" + (described.vocabulary or "")

    def spelt(table: pa.Table) -> list[str]:
        return ["".join(letters[code] for code in codes.ravel() if code) for codes in _values(table, described)]

    return _Reader([(described.column, described.arrow_type)], spelt)


def _strings(table: pa.Table, column: str) -> Iterator[str]:
    return (text or "" for text in table[column].to_pylist())


def _rows(description: DatasetDescription) -> _Reader:
    inputs = description.inputs

    def shown(table: pa.Table) -> list[list[float | int | bool]]:
        columns = [_values(table, each) for each in inputs]
        return [
            [plain(value) for part in parts for value in part.tolist()][:MOST_COLUMNS]
            for parts in zip(*columns, strict=True)
        ]

    return _Reader([(each.column, each.arrow_type) for each in inputs], shown)


def plain(value: float | int | bool) -> float | int | bool:
    """Return a number as it is written: whole ones without a point, others with the digits that float32 has."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < 2**53 else float(f"{value:.7g}")
    return value


def _values(table: pa.Table, described: InputDescription) -> NDArray[Any]:
    """Return the stored values of a column, [R, *shape]."""
    column = table[described.column].combine_chunks()
    chunk = column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)
    start = chunk.offset * described.row_bytes
    flat = np.frombuffer(chunk.buffers()[1], described.stored, len(chunk) * described.numbers, start)
    return flat.reshape(len(chunk), *described.shape)
