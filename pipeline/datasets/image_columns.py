"""Columns of image-classification Parquet as data set hubs publish it, and the images inside.

A file has a struct column ``img`` or ``image`` with the encoded image in ``bytes`` and a name in ``path``, and a column
of class numbers. Where the hub's metadata is there, it names the classes.
"""

import io
import json
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from relatif.schemas.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "target")

_HUB_METADATA = b"huggingface"
_FORMATS = ("PNG", "JPEG")
_CHANNELS = {"L": 1, "RGB": 3}

# Every error that damaged bytes raise in pillow's decoders.
_UNDECODABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageColumns:
    """Names of the two columns that are used, and of the classes where the file has them."""

    image: str
    label: str
    class_names: tuple[str, ...] | None


@dataclass(frozen=True)
class ImageForm:
    """What all images of a data set have in common; ``mode`` is pillow's: L (grey) or RGB."""

    mode: str
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, rows, columns."""
        return (_CHANNELS[self.mode], self.height, self.width)

    def __str__(self) -> str:
        return f"{self.mode} of {self.width} x {self.height}"


def find_columns(schema: pa.Schema, origin: str) -> ImageColumns:
    """Return the columns to use; DataError naming ``origin`` and the columns where there is not exactly one of each."""
    images = [field.name for field in schema if field.name in IMAGE_COLUMNS and _holds_images(field.type)]
    labels = [field.name for field in schema if field.name in LABEL_COLUMNS and pa.types.is_integer(field.type)]
    for kind, wanted, found in (
        ("struct column with bytes and path", IMAGE_COLUMNS, images),
        ("integer column", LABEL_COLUMNS, labels),
    ):
        if len(found) != 1:
            columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
            raise DataError(
                f"expected exactly one {kind} named {' or '.join(wanted)} in {origin}, "
                f"found {' and '.join(found) or 'none'} among {columns}; give a file with one of them"
            )
    return ImageColumns(images[0], labels[0], _class_names(schema, labels[0], origin))


def image_form(data: bytes | None, origin: str) -> ImageForm:
    """Return the form of an encoded image; DataError naming ``origin`` where it is not grey or RGB in PNG or JPEG."""
    return _decoded(data, origin)[0]


def decode_images(encoded: Sequence[bytes | None], form: ImageForm, origin: str, start: int) -> NDArray[np.uint8]:
    """Return uint8 [N, *form.shape] of encoded images, the first of which is row ``start`` of ``origin``.

    An orientation written beside the pixels is not applied. Raises DataError, naming file and row, for an image that
    is missing, can't be decoded, or has another form.
    """
    images = np.empty((len(encoded), *form.shape), np.uint8)
    for row, data in enumerate(encoded):
        place = f"row {start + row} of {origin}"
        found, pixels = _decoded(data, place)
        if found != form:
            raise DataError(
                f"expected all images of the data set to be {form}, as the first one is, found {found} in {place}; "
                f"bring all images to one size and mode"
            )
        images[row] = pixels.reshape(form.height, form.width, -1).transpose(2, 0, 1)
    return images


def _decoded(data: bytes | None, place: str) -> tuple[ImageForm, NDArray[np.uint8]]:
    if data is None:
        raise DataError(f"expected an encoded image in {place}, found none; give files that hold the images' bytes")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode not in _CHANNELS:
                raise DataError(
                    f"expected grey (L) or RGB pixels in {place}, found mode {image.mode}; convert the images"
                )
            return ImageForm(image.mode, image.height, image.width), np.asarray(image)
    except _UNDECODABLE as error:
        raise DataError(
            f"expected a whole {' or '.join(_FORMATS)} image in {place}, found one that is truncated, damaged or of "
            f"another kind ({error}); replace the image or drop its row"
        ) from error


def _holds_images(kind: pa.DataType) -> bool:
    if not pa.types.is_struct(kind) or {field.name for field in kind} != {"bytes", "path"}:
        return False
    content = kind.field("bytes").type
    return bool(pa.types.is_binary(content) or pa.types.is_large_binary(content))


def _class_names(schema: pa.Schema, label: str, origin: str) -> tuple[str, ...] | None:
    text = (schema.metadata or {}).get(_HUB_METADATA)
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"][label].get("names")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected the column {label} in the metadata {_HUB_METADATA.decode()!r} of {origin}, "
            f"found something else ({type(error).__name__}: {error}); remove the metadata or write it anew"
        ) from error
    if names is None:
        return None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(
            f"expected a list of names of the classes of {label} in the metadata of {origin}, found {names!r:.60}; "
            f"write them as a list of texts"
        )
    return tuple(names)
