"""Sheets of tiles, decoded again."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from relatif.pipeline.report.page.sprites import COLUMNS, TILES, reduced, sheets, tile_size


def tile_of(sheet: str, number: int, size: tuple[int, int]) -> np.ndarray:
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(sheet))).convert("RGB"))
    top, left = number // COLUMNS * size[0], number % COLUMNS * size[1]
    return image[top : top + size[0], left : left + size[1]]


def test_a_grey_tile_keeps_sixteen_greys_at_its_place() -> None:
    chance = np.random.default_rng(0)
    tiles = [chance.integers(0, 256, (5, 7)).astype(np.uint8) for _ in range(TILES + 3)]
    found = sheets(tiles)
    assert (found.tile, found.gray, found.type, len(found.images)) == ((5, 7), True, "image/png", 2)
    for number in (0, 1, 64, 2047, 2048, 2050):
        shown = tile_of(found.images[number // TILES], number % TILES, found.tile)
        assert np.abs(shown[..., 0].astype(int) - tiles[number]).max() <= 255 / 16 + 1
        assert len(np.unique(shown)) <= 16


@pytest.mark.parametrize("side", [32, 20])
def test_a_coloured_tile_is_not_mixed_with_the_next(side: int) -> None:
    colours = ([250, 10, 10], [10, 250, 10], [10, 10, 250])
    tiles = [np.full((side, side, 3), colours[number % 3], np.uint8) for number in range(70)]
    found = sheets(tiles)
    assert (found.gray, found.type) == (False, "image/jpeg")
    for number in (0, 1, 2, 63, 64, 69):
        shown = tile_of(found.images[0], number, found.tile)
        inside = shown[2:-2, 2:-2].reshape(-1, 3).mean(axis=0)
        assert np.abs(inside - tiles[number][0, 0]).max() < 12, number


def test_large_pictures_are_reduced_in_their_proportions() -> None:
    assert tile_size(28, 28) == (28, 28)
    assert tile_size(64, 64) == (64, 64)
    assert tile_size(80, 120) == (43, 64)
    assert tile_size(1000, 2) == (64, 1)
    picture = np.zeros((80, 120), np.uint8)
    picture[:, 60:] = 200
    small = reduced(picture, tile_size(80, 120))
    assert small.shape == (43, 64)
    assert small[:, :28].max() < 10
    assert small[:, 36:].min() > 190
