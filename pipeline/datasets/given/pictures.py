"""A user's picture as the data's pictures are stored: mode, size, and whether ink is light or dark.

Axes: N pictures of the data.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.datasets.description import InputDescription
from relatif.pipeline.datasets.tables.readers import pixels_of
from relatif.schemas.errors import DataError

LIGHT = 128
"""Of 256 values of a grey pixel: those from here on are light."""

OF_AN_EDGE, OF_PICTURES = 0.9, 0.99
"""Share of the pixels at its edge by which a picture has a light or a dark ground, and of the pictures that have it."""

WIDE_MODES = ("I", "F")
"""What the names of pillow's modes with more than 8 bits a value begin with."""


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels uint8 in the shape that the data store, and what was done to the picture, in sentences."""

    pixels: NDArray[np.uint8]
    notes: tuple[str, ...]


def takes_picture(described: InputDescription) -> bool:
    """Return whether an input is a picture: bytes [rows, columns], or [1 or 3, rows, columns]."""
    if described.dtype != "uint8" or described.vocabulary is not None:
        return False
    return len(described.shape) == 2 or (len(described.shape) == 3 and described.shape[0] in (1, 3))


def stored_picture(image: Image.Image, described: InputDescription, *, as_data: bool = False) -> Picture:
    """Return an upright picture of any size and mode as the data store theirs.

    What is transparent is laid on white, unless data of any mode were converted as they are (``as_data``). Raises
    DataError for more than 8 bits a value, which a conversion would cut.
    """
    if image.mode.startswith(WIDE_MODES):
        raise DataError(f"expected a picture with 8 bits a value, found mode {image.mode}; convert it")
    notes = []
    if not as_data and image.has_transparency_data:
        layers = image.convert("RGBA")
        if np.asarray(layers.getchannel("A")).min() < 255:
            notes.append("its transparent parts were laid on white")
        image = Image.alpha_composite(Image.new("RGBA", layers.size, "white"), layers).convert("RGB")
    mode = "RGB" if len(described.shape) == 3 and described.shape[0] == 3 else "L"
    rows, columns = described.shape[-2:]
    if image.mode != mode:
        notes.append(f"it was converted from {image.mode} to {'RGB' if mode == 'RGB' else 'grey'}")
    if (image.height, image.width) != (rows, columns):
        stretched = "" if image.height * columns == image.width * rows else ", stretched"
        notes.append(f"it was resized from {image.width} x {image.height} to {columns} x {rows}{stretched}")
    return Picture(np.ascontiguousarray(pixels_of(image, mode, (rows, columns))).reshape(described.shape), tuple(notes))


def ground(pixels: NDArray[np.uint8]) -> str | None:
    """Return ``light`` or ``dark``, as nearly all pixels at the edges of grey pictures [N, rows, columns], else None.

    >>> ground(np.zeros((1, 4, 4), np.uint8)), ground(np.full((1, 4, 4), 255, np.uint8))
    ('dark', 'light')
    """
    edges = np.concatenate([pixels[:, 0], pixels[:, -1], pixels[:, 1:-1, 0], pixels[:, 1:-1, -1]], axis=1)
    light = (edges >= LIGHT).mean(axis=1)
    if (light >= OF_AN_EDGE).mean() >= OF_PICTURES:
        return "light"
    return "dark" if (light <= 1 - OF_AN_EDGE).mean() >= OF_PICTURES else None


def inverted(picture: Picture, why: str) -> Picture:
    """Return a picture with light and dark exchanged, and a note of ``why``."""
    return Picture(255 - picture.pixels, (*picture.notes, f"light and dark were exchanged{why}"))
