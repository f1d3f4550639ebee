"""Ready-made readers: columns of numbers, pictures, texts, and a task's own; each turns a batch of rows into arrays.

Axes: N rows of a batch.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image, ImageOps

from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.image_columns import MOST_PIXELS, require_single
from relatif.pipeline.datasets.tables.rows import kind_of
from relatif.schemas.errors import DataError

Arrays = tuple[NDArray[Any], ...]

CHANNELS = {"L": 1, "RGB": 3}


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows of a file: the columns that are read, and the numbers of the rows in it, for messages."""

    batch: pa.RecordBatch
    numbers: NDArray[np.int64]
    origin: str

    def place(self, row: int) -> str:
        """Return how a row of the batch is called in messages."""
        return f"row {self.numbers[row]} of {self.origin}"

    def column(self, name: str) -> pa.Array:
        """Return a column by its name."""
        return self.batch.column(self.batch.schema.get_field_index(name))


@dataclass(frozen=True)
class Numbers:
    """Columns of numbers and truth values side by side, float32 [N, F]."""

    columns: tuple[str, ...]

    def described(self, first: Rows) -> tuple[InputDescription, ...]:
        """Return what is stored."""
        return (InputDescription(column="features", dtype="float32", shape=(len(self.columns),)),)

    def read(self, rows: Rows) -> tuple[Arrays, tuple[str, ...] | None]:
        """Return the inputs of a batch; DataError, naming row and column, for one without a finite number."""
        return (numbers_of(rows, self.columns),), None


def numbers_of(rows: Rows, columns: Sequence[str]) -> NDArray[np.float32]:
    """Return columns of numbers side by side, float32 [N, F]; DataError for a value that is none or not finite."""
    found = np.empty((rows.batch.num_rows, len(columns)), np.float32)
    for place, name in enumerate(columns):
        column = rows.column(name)
        if kind_of(column.type) not in ("number", "truth value"):
            raise DataError(
                f"expected numbers in column {name!r} of {rows.origin}, found {column.type}; choose other columns, or "
                f"give the Task a read of your own"
            )
        values = pc.cast(column, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        with np.errstate(over="ignore"):
            found[:, place] = values
        if not (finite := np.isfinite(found[:, place])).all():
            row = int((~finite).argmax())
            shown = "none" if not column[row].is_valid else str(column[row].as_py())
            raise DataError(
                f"expected a finite number in column {name!r} in {rows.place(row)}, found {shown}; fill it in, drop "
                f"the row, or leave the column out"
            )
    return found


@dataclass(frozen=True)
class Pictures:
    """A column of encoded pictures, uint8 [N, channels, rows, columns]: turned upright, converted, resized.

    ``size`` is rows and columns, None: that of the first picture, which all others must have; so for ``mode``.
    """

    column: str
    size: tuple[int, int] | None
    mode: str | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    form: list[tuple[str, tuple[int, int]]] = field(default_factory=list, compare=False)
    """Mode and size of the pictures, once the first one was read."""

    def described(self, first: Rows) -> tuple[InputDescription, ...]:
        """Return what is stored, as the first picture is."""
        (images,), _ = self.read(Rows(first.batch.slice(0, 1), first.numbers[:1], first.origin))
        channels = images.shape[1]
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values is not None and len(values) not in (1, channels):
                raise DataError(
                    f"expected data.{name} with a number for each of the {channels} channels, found {len(values)}; set "
                    f"data.image_mode, or correct it"
                )
        mean, std = (None if values is None else values * (channels // len(values)) for values in (self.mean, self.std))
        shape, axes = tuple(images.shape[1:]), ("channel", "row", "column")
        return (InputDescription(column="image", dtype="uint8", shape=shape, axes=axes, mean=mean, std=std),)

    def read(self, rows: Rows) -> tuple[Arrays, tuple[str, ...] | None]:
        """Return the pictures of a batch; DataError, naming the row, for one that does not fit the first."""
        column = rows.column(self.column)
        data = (pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column).to_pylist()
        pixels = [self._pixels(each, rows.place(row)) for row, each in enumerate(data)]
        return (np.stack(pixels),), None

    def _pixels(self, data: bytes | None, place: str) -> NDArray[np.uint8]:
        image = upright(data, place)
        if not self.form:
            mode = self.mode or image.mode
            if mode not in CHANNELS:
                raise DataError(
                    f"expected grey (L) or RGB pixels in {place}, found mode {image.mode}; set data.image_mode"
                )
            self.form.append((mode, self.size or (image.height, image.width)))
        mode, (height, width) = self.form[0]
        if image.mode != mode and self.mode is None:
            raise DataError(
                f"expected pictures of mode {mode}, as the first one is, found {image.mode} in {place}; set "
                f"data.image_mode"
            )
        if (image.height, image.width) != (height, width) and self.size is None:
            raise DataError(
                f"expected pictures of {width} x {height}, as the first one is, found {image.width} x {image.height} "
                f"in {place}; set data.image_size"
            )
        return pixels_of(image, mode, (height, width))


def pixels_of(image: Image.Image, mode: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the pixels of a picture, converted to a mode and resized to rows and columns, [channels, rows, columns].

    Sides are resized apart, so that a picture of other proportions is stretched; what gets smaller is averaged.
    """
    rows, columns = size
    if image.mode != mode:
        image = image.convert(mode)
    if (image.height, image.width) != size:
        image = image.resize((columns, rows), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(rows, columns, CHANNELS[mode]).transpose(2, 0, 1)


def upright(data: bytes | None, place: str) -> Image.Image:
    """Return a decoded picture, turned as its orientation says; DataError for one that is damaged or too large."""
    if data is None:
        raise DataError(f"expected an encoded picture in {place}, found none; give the bytes, or drop the row")
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            size = image.width * image.height
            if size <= MOST_PIXELS:
                require_single(image, data, place)
                upright = ImageOps.exif_transpose(image)
                upright.load()
                return upright
    except DataError:
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds in pillow's decoders
        raise DataError(
            f"expected a whole PNG or JPEG picture in {place}, found one that is truncated, damaged or of another kind "
            f"({' '.join(str(error).split())}); replace it or drop its row"
        ) from error
    raise DataError(
        f"expected a picture of at most {MOST_PIXELS} pixels in {place}, found {size}; make it smaller beforehand"
    )


@dataclass(frozen=True, eq=False)
class Texts:
    """A column of texts as ``input_ids`` and ``attention_mask``, int64 [N, length] each, by a tokenizer's function."""

    column: str
    encode: Callable[[list[str]], tuple[NDArray[np.int64], NDArray[np.int64]]]
    length: int
    words: int | None = None
    """Size of the model's vocabulary, where it is known."""

    def described(self, first: Rows) -> tuple[InputDescription, ...]:
        """Return what is stored."""
        return (
            InputDescription(
                column="input_ids", dtype="int64", shape=(self.length,), text_column="text", name="input_ids"
            ),
            InputDescription(column="attention_mask", dtype="int64", shape=(self.length,), name="attention_mask"),
        )

    def read(self, rows: Rows) -> tuple[Arrays, tuple[str, ...] | None]:
        """Return the codes, the mask and the texts of a batch; DataError, naming the row, for one without a text."""
        texts = rows.column(self.column).to_pylist()
        for row, text in enumerate(texts):
            if text is None:
                raise DataError(
                    f"expected a text in column {self.column!r} in {rows.place(row)}, found none; fill it in or drop "
                    f"the row"
                )
        codes, mask = self.encode(texts)
        if self.words is not None and (wrong := codes >= self.words).any():
            row = int(wrong.any(axis=1).argmax())
            raise DataError(
                f"expected a tokenizer of the model's {self.words} words, found token {codes[wrong][0]} for the text "
                f"in {rows.place(row)}; set data.tokenizer to that of the model"
            )
        return (codes, mask), tuple(texts)
