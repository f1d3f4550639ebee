"""What all pictures share: a PNG of the size that was asked for, the same bytes each time, colours told apart."""

import io
from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from relatif.pipeline.report.drawing import COLOURS, DASHES, DOTS_PER_INCH, MARKERS, png
from relatif.schemas.methods import METHODS


def line(figure: Figure) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=COLOURS[1])
    axes.set_title("umlauts too: Größe")


@pytest.mark.parametrize("size", [(8.0, 6.0), (3.0, 4.5)])
def test_a_picture_has_the_size_in_inches(size: tuple[float, float]) -> None:
    image = Image.open(io.BytesIO(png(size, line)))
    assert image.format == "PNG"
    assert image.size == tuple(round(DOTS_PER_INCH * length) for length in size)


def test_what_is_drawn_is_seen() -> None:
    found = np.asarray(Image.open(io.BytesIO(png((4, 3), line))).convert("RGB")).reshape(-1, 3)
    assert (found == np.round(255 * np.array(to_rgb(COLOURS[1])))).all(axis=1).sum() > 100
    assert len(np.unique(np.asarray(Image.open(io.BytesIO(png((4, 3), lambda figure: None))).convert("RGB")))) == 1


def test_equal_drawings_give_equal_bytes_without_a_mark_of_the_library() -> None:
    picture = png((4, 3), line)
    assert png((4, 3), line) == picture
    assert "Software" not in Image.open(io.BytesIO(picture)).info


def test_settings_of_the_process_neither_change_a_picture_nor_are_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = png((4, 3), line)
    with mpl.rc_context({"font.size": 30.0, "font.family": ["serif"]}):
        assert png((4, 3), line) == picture
        assert (mpl.rcParams["font.size"], mpl.rcParams["font.family"]) == (30.0, ["serif"])


def test_an_error_in_a_drawing_leaves_the_settings_as_they_were() -> None:
    before = mpl.rcParams["font.size"]
    with pytest.raises(ZeroDivisionError):
        png((4, 3), lambda figure: 1 // 0)
    assert mpl.rcParams["font.size"] == before


def test_colours_and_marks_tell_all_methods_apart() -> None:
    assert len(set(COLOURS)) == len(COLOURS) >= len(METHODS)
    assert len(set(MARKERS)) == len(MARKERS) >= len(METHODS)
    assert len(set(DASHES)) == len(DASHES)
    for one, other in combinations(COLOURS, 2):
        assert np.linalg.norm(np.subtract(to_rgb(one), to_rgb(other))) > 0.25


def test_dashes_tell_the_curves_of_one_picture_apart() -> None:
    assert len(DASHES) >= sum(method.additive for method in METHODS.values())
