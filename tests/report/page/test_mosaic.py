"""Rows of pictures with captions, by the pixels of what is drawn."""

import io

import numpy as np
from PIL import Image

from relatif.pipeline.report.page.mosaic import Cell, Mosaic, draw


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("L"))


def test_a_mosaic_shows_each_picture_and_what_stands_below_it() -> None:
    dark, light = np.full((4, 4), 255, np.uint8), np.zeros((4, 4), np.uint8)
    first = draw(Mosaic([[Cell(dark, "a"), Cell(light, "b")]]))
    other = draw(Mosaic([[Cell(light, "a"), Cell(dark, "b")]]))
    assert first == draw(Mosaic([[Cell(dark, "a"), Cell(light, "b")]]))
    left, right = (picture(first)[:, half].min() for half in (slice(0, 60), slice(-60, None)))
    assert picture(first)[:50, :60].mean() < picture(first)[:50, -60:].mean()
    assert picture(other)[:50, :60].mean() > picture(other)[:50, -60:].mean()
    assert left < 50 or right < 50
    # Characters that matplotlib reads as mathematics are shown as they are.
    assert draw(Mosaic([[Cell(dark, "$x_{")]]))
