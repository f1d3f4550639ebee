"""Columns of image-classification Parquet as data set hubs publish it, and the images inside.

A file has a struct column ``img`` or ``image`` with the encoded image in ``bytes`` and a name in ``path``, and a column
of class numbers. Where the hub's metadata is there, it names the classes.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image, ImageOps

from relatif.schemas.errors import DataError

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "target")
FINER = {("fine_label", "coarse_label"): "fine_label"}
"""Which of several columns of labels is taken where none is chosen: the finer one, as in CIFAR-100."""

MOST_PIXELS = 64 * 2**20
"""Of one image; a file of some kilobytes can unpack to more."""

_HUB_METADATA = b"huggingface"
_FORMATS = ("PNG", "JPEG")
_CHANNELS = {"L": 1, "RGB": 3}

_PNG_BIT_DEPTH = 24
"""Place of the byte that tells how many bits a value has, in the header that begins every PNG."""


@dataclass(frozen=True)
class ImageColumns:
    """Names of the two columns that are used, and of the classes where the file has them.

    ``label`` is None where there is no column of labels; ``others`` are columns that could have been taken for it.
    """

    image: str
    label: str | None
    class_names: tuple[str, ...] | None
    others: tuple[str, ...] = ()


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


def find_columns(
    schema: pa.Schema, origin: str, label: str | None = None, *, may_lack_labels: bool = False
) -> ImageColumns:
    """Return the columns to use; ``label`` chooses the column of labels by its name.

    DataError naming ``origin`` and the columns where there is not exactly one of images, and one of labels, none only
    where they may be lacking.
    """
    images = [field.name for field in schema if field.name in IMAGE_COLUMNS and _holds_images(field.type)]
    named = (label,) if label is not None else LABEL_COLUMNS
    labels = [field.name for field in schema if field.name in named and pa.types.is_integer(field.type)]
    finer = FINER.get(tuple(labels))
    columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
    if len(images) != 1:
        raise DataError(
            f"expected exactly one struct column with bytes and path named {' or '.join(IMAGE_COLUMNS)} in {origin}, "
            f"found {' and '.join(images) or 'none'} among {columns}; give a file with one of them"
        )
    lacking = may_lack_labels and not any(field.name in named for field in schema)
    if len(labels) != 1 and finer is None and not lacking:
        raise DataError(
            f"expected exactly one integer column named {' or '.join(named)} in {origin}, "
            f"found {' and '.join(labels) or 'none'} among {columns}; give a file with one of them, or choose one by "
            f"data.label_column (relatif prepare --label-column)"
        )
    chosen = finer or (labels[0] if labels else None)
    others = tuple(name for name in labels if name != chosen)
    return ImageColumns(images[0], chosen, None if chosen is None else _class_names(schema, chosen, origin), others)


def image_form(data: bytes | None, origin: str) -> ImageForm:
    """Return the form of an encoded image; DataError naming ``origin`` where it is not grey or RGB in PNG or JPEG."""
    return _decoded(data, origin)[0]


def decode_images(encoded: Sequence[bytes | None], form: ImageForm, origin: str, start: int) -> NDArray[np.uint8]:
    """Return uint8 [N, *form.shape] of encoded images, the first of which is row ``start`` of ``origin``.

    Images are turned upright where an orientation is written beside their pixels. Raises DataError, naming file and
    row, for an image that is missing, can't be decoded, or has another form.
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
            _require_plain(image, data, place)
            upright = ImageOps.exif_transpose(image)
            return ImageForm(upright.mode, upright.height, upright.width), np.asarray(upright)
    except DataError:
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds in pillow's decoders
        raise DataError(
            f"expected a whole {' or '.join(_FORMATS)} image in {place}, found one that is truncated, damaged or of "
            f"another kind ({error}); replace the image or drop its row"
        ) from error


def _require_plain(image: Image.Image, data: bytes, place: str) -> None:
    """Refuse an image whose values or frames would be lost, before its pixels are unpacked."""
    if image.mode not in _CHANNELS:
        raise DataError(f"expected grey (L) or RGB pixels in {place}, found mode {image.mode}; convert the images")
    if image.width * image.height > MOST_PIXELS:
        raise DataError(
            f"expected an image of at most {MOST_PIXELS} pixels in {place}, found {image.width} x {image.height}; "
            f"make it smaller"
        )
    require_single(image, data, place)


def require_single(image: Image.Image, data: bytes, place: str) -> None:
    """Raise DataError for an animation, and for more than 8 bits a value, which pillow would cut off."""
    if image.format == "PNG" and (getattr(image, "n_frames", 1) > 1 or data[_PNG_BIT_DEPTH] > 8):
        found = "an animation" if data[_PNG_BIT_DEPTH] <= 8 else f"{data[_PNG_BIT_DEPTH]} bits a value"
        raise DataError(f"expected one picture with 8 bits a value in {place}, found {found}; convert the images")


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
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
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
    if len(set(names)) < len(names) or not all(name.strip() for name in names):
        raise DataError(
            f"expected a name of its own for each class of {label} in the metadata of {origin}, found one twice or an "
            f"empty one among {names!r:.60}; give each class a name"
        )
    return tuple(names)
