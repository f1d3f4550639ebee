"""The picture of an explanation: a PNG on white, as large as what it holds, of pictures, texts and rows."""

import io

import numpy as np
import pytest
from PIL import Image

from relatif.pipeline.report.drawing import DOTS_PER_INCH
from relatif.pipeline.report.explanation_figure import EXAMPLES, HEAD, SIDE, WORDS, explanation_png
from relatif.pipeline.showing.shown import Media, Shown, ShownExample, ShownMethod
from tests.support.shown import of_pictures, of_rows, of_texts, picture


def drawn(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize(("count", "columns"), [(3, 3), (9, EXAMPLES)])
def test_it_grows_with_methods_and_examples(count: int, columns: int) -> None:
    found = drawn(explanation_png(of_pictures(count)))
    wanted = (2 * (SIDE + WORDS) + HEAD) * DOTS_PER_INCH, (SIDE * (columns + 1) + 0.4) * DOTS_PER_INCH
    assert found.shape[:2] == tuple(int(side) for side in wanted)
    assert (found[0] == 255).all(), "a light ground"


def test_the_input_is_drawn_pixel_by_pixel() -> None:
    found = drawn(explanation_png(of_pictures()))
    # Every grey of the input's noise is there as a square of equal pixels.
    for value in np.unique(picture(0))[:20]:
        assert (abs(found.astype(int) - (255 - int(value))) <= 1).all(axis=2).sum() > 400


def test_one_channel_is_ink_on_paper_and_colours_stay() -> None:
    ground = np.zeros((8, 8), np.uint8)
    for pixels, is_dark in ((ground, False), (np.repeat(ground[..., None], 3, axis=2), True)):
        helps = [ShownExample(1, 0, 1.0, media=Media(pixels))]
        shown = Shown("it", Media(pixels), (), [ShownMethod("influence", "IF", helps)], "effect")
        dark = (drawn(explanation_png(shown)) < 10).all(axis=2).sum()
        assert (dark > 10_000) == is_dark


@pytest.mark.parametrize("shown", [of_texts(), of_rows()])
def test_texts_and_rows_are_drawn_whatever_they_hold(shown: object) -> None:
    data = explanation_png(shown)  # type: ignore[arg-type]
    assert (drawn(data) < 128).any()
    assert explanation_png(shown) == data  # type: ignore[arg-type]
