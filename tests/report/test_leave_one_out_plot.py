"""Fig. 6 as a picture: a panel for each curvature, every method's points in it, on axes that hold them."""

import io
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.report import drawing
from relatif.pipeline.report.leave_one_out_plot import draw_changes
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import LEAVE_ONE_OUT, LEAVE_ONE_OUT_PREDICTIONS

CURVATURES = ("kfac", "exact", "ekfac", "identity", "lissa", "cg")
TESTS = 5
TITLES = [method.title for method in METHODS.values()]
FACTOR = dict(zip(CURVATURES, (1.5, 1.0, 1.2, 1e-4, 0.9, 1.1), strict=True))
"""What a curvature predicts over what happens."""


def change(test: int, number: int, scale: float) -> float:
    """Change of test input ``test`` by the best example of the ``number``-th method; the last one's is negative."""
    return scale * (-1 if number == 3 else 1) * 10.0 ** (-number - test / 3)


def table(scale: float = 1.0, without: str = "") -> pa.Table:
    rows = [
        {"method": method, "test_index": test, "train_index": number, "test_loss_change": change(test, number, scale)}
        | dict.fromkeys(("predicted_test_loss_change", "parameter_change", "train_loss_change"), 0.0)
        for test in range(TESTS)
        for number, method in enumerate(METHODS)
        if method != without
    ]
    return pa.Table.from_pylist(rows, schema=LEAVE_ONE_OUT.schema)


def predictions(curvatures: Sequence[str], scale: float = 1.0) -> pa.Table:
    rows = [
        {"curvature": curvature, "damping": 1.0, "test_index": test, "train_index": number}
        | {
            "predicted_test_loss_change": FACTOR[curvature] * change(test, number, scale),
            "test_loss_change": change(test, number, scale),
        }
        for curvature in curvatures
        for test in range(TESTS)
        for number in range(len(METHODS))
    ]
    return pa.Table.from_pylist(rows, schema=LEAVE_ONE_OUT_PREDICTIONS.schema)


def pixels(picture: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures, as they are drawn."""
    figures: list[Figure] = []

    def kept(*arguments: object, **settings: object) -> Figure:
        figures.append(Figure(*arguments, **settings))  # type: ignore[arg-type]
        return figures[-1]

    monkeypatch.setattr(drawing, "Figure", kept)
    return figures


@pytest.mark.parametrize("count", range(1, 7))
def test_a_panel_for_each_curvature_shows_every_methods_points(count: int, drawn: list[Figure]) -> None:
    draw_changes(table(), predictions(CURVATURES[:count]))
    panels = [axes for axes in drawn[0].axes if axes.axison]
    assert [panel.get_title() for panel in panels] == [
        f"{curvature}: Pearson 1.000, Spearman 1.000" for curvature in CURVATURES[:count]
    ]
    for panel, curvature in zip(panels, CURVATURES, strict=False):
        assert [points.get_label() for points in panel.collections] == TITLES
        for number, points in enumerate(panel.collections):
            actual = np.array([change(test, number, 1.0) for test in range(TESTS)])
            np.testing.assert_allclose(points.get_offsets(), np.stack([FACTOR[curvature] * actual, actual], axis=1))
        (left, right), (bottom, top) = panel.get_xlim(), panel.get_ylim()
        for x, y in np.concatenate([np.asarray(points.get_offsets()) for points in panel.collections]):
            assert left < x < right
            assert bottom < y < top
        assert (bottom, top) == panels[0].get_ylim()


def test_only_the_identity_has_an_axis_of_its_own(drawn: list[Figure]) -> None:
    draw_changes(table(), predictions(["identity", "kfac", "exact"]))
    identity, kfac, exact = drawn[0].axes
    assert kfac.get_xlim() == exact.get_xlim() == kfac.get_ylim()
    assert identity.get_xlim()[1] < 1e-3 * kfac.get_xlim()[1]
    assert [len(panel.lines) for panel in (identity, kfac, exact)] == [0, 1, 1], "its size estimates nothing"
    x, y = kfac.lines[0].get_data()
    np.testing.assert_array_equal(x, y)
    legend = identity.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == [*TITLES, "equal"]


@pytest.mark.parametrize("scale", [1.0, 1e-6, 0.0])
def test_the_picture_is_not_blank_and_the_same_each_time(scale: float) -> None:
    both = predictions(["exact", "identity"], scale)
    picture = draw_changes(table(scale), both)
    assert len(np.unique(pixels(picture).reshape(-1, 3), axis=0)) > 50
    assert not np.array_equal(pixels(picture), pixels(draw_changes(table(scale, without="influence"), both)))
    assert draw_changes(table(scale), both) == picture
