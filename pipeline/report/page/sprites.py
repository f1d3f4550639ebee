"""Many small pictures as a few large ones, so that a page holds thousands of them.

Axes: T tiles.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

COLUMNS, ROWS = 64, 32
TILES = COLUMNS * ROWS
"""Tiles of a sheet: 2,048."""

LARGEST_SIDE = 64
"""Pictures are shown at their own size up to here; larger ones are reduced."""

GREYS = 16
QUALITY = 80

Tile = NDArray[np.uint8]
"""[rows, columns] or [rows, columns, 3]."""


@dataclass(frozen=True)
class Sheets:
    """Sheets of tiles: sizes, whether they are grey, and the files as base64."""

    tile: tuple[int, int]
    gray: bool
    type: str
    images: tuple[str, ...]

    def json(self) -> dict[str, object]:
        """Return what the page reads."""
        return {
            "tile": list(self.tile),
            "columns": COLUMNS,
            "rows": ROWS,
            "gray": self.gray,
            "type": self.type,
            "images": list(self.images),
        }


def tile_size(height: int, width: int, largest: int = LARGEST_SIDE) -> tuple[int, int]:
    """Return rows and columns of a picture's tile, in its own proportions."""
    scale = min(1.0, largest / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def reduced(picture: Tile, size: tuple[int, int]) -> Tile:
    """Return a picture at the size of a tile."""
    if picture.shape[:2] == size:
        return picture
    image = Image.fromarray(picture).resize((size[1], size[0]), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(image)


def sheets(tiles: Sequence[Tile]) -> Sheets:
    """Return tiles, all of one size and number of channels, as sheets in their order: 16 greys as PNG, or JPEG."""
    gray = tiles[0].ndim == 2
    size = tiles[0].shape[0], tiles[0].shape[1]
    encode = _grey if gray else _coloured
    images = [base64.b64encode(encode(sheet)).decode() for sheet in _laid_out(tiles, size)]
    return Sheets(size, gray, "image/png" if gray else "image/jpeg", tuple(images))


def _laid_out(tiles: Sequence[Tile], size: tuple[int, int]) -> Iterator[Tile]:
    height, width = size
    for start in range(0, len(tiles), TILES):
        some = tiles[start : start + TILES]
        sheet = np.zeros((ROWS, height, COLUMNS, width, *tiles[0].shape[2:]), np.uint8)
        for number, tile in enumerate(some):
            sheet[number // COLUMNS, :, number % COLUMNS] = tile
        yield sheet.reshape(ROWS * height, COLUMNS * width, *tiles[0].shape[2:])


def _grey(sheet: Tile) -> bytes:
    step = 256 // GREYS
    image = Image.fromarray(sheet // step).convert("P")
    image.putpalette([level * 255 // (GREYS - 1) for level in range(GREYS) for _ in range(3)])
    file = io.BytesIO()
    image.save(file, "PNG", bits=4, compress_level=6)
    return file.getvalue()


def _coloured(sheet: Tile) -> bytes:
    file = io.BytesIO()
    # Colour is averaged over blocks of 16 x 16 pixels only where no block lies over two tiles.
    whole = sheet.shape[0] // ROWS % 16 == 0 and sheet.shape[1] // COLUMNS % 16 == 0
    Image.fromarray(sheet).save(file, "JPEG", quality=QUALITY, optimize=True, subsampling=2 if whole else 0)
    return file.getvalue()
