"""The plane's summary and picture say what the tables say."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

from relatif.pipeline.report.plane import OUTLIER_COLOUR, SHOWN, Plane, draw_plane, plane_text, read_plane
from relatif.pipeline.storage.parquet import write_table
from relatif.pipeline.storage.store import open_store
from relatif.schemas.tables import TABLES
from tests.support.table_rows import number_columns

POINTS = np.array([[-1, 0], [1, 0], [1, 1], [0, 2]], np.float32)
LABELS, LOSSES = np.array([0, 1, 1, 0]), np.array([0.25, 0.5, 0.75, 2.0], np.float32)
OUTLIER = 3
COLUMNS, LINES = np.array([-2, 0, 2], np.float32), np.array([-1, 3], np.float32)
BEST = {
    "influence": [[3, 3, 3], [3, 3, 0]],
    "theta_relatif": [[0, 1, 2], [0, 3, 1]],
    "l_relatif": [[0, 0, 1], [1, 2, 2]],
}
RIGHT = [[0.125, 0.25, 0.75], [0.25, 0.5, 0.875]]


def plane(best: dict[str, list[list[int]]] = BEST) -> Plane:
    explaining = {method: np.array(rows) for method, rows in best.items()}
    right = np.array(RIGHT, np.float32)
    return Plane(POINTS, LABELS, LOSSES, OUTLIER, COLUMNS, LINES, right, explaining)


def write(folder: Path, name: str, rows: list[dict[str, object]]) -> None:
    spec = TABLES[name]
    full = [{**dict.fromkeys(number_columns(spec), 0), **row} for row in rows]
    write_table(open_store(folder), f"{name}/part-00000.parquet", pa.Table.from_pylist(full, spec.schema), spec, {})


def test_tables_become_the_plane(tmp_path: Path) -> None:
    write(tmp_path, "train_examples", [{"label": a, "loss": b} for a, b in zip(LABELS, LOSSES, strict=True)])
    right = np.array(RIGHT).ravel()
    # Explained is the more probable class, whose probability the table has.
    tests = [{"explained_label": int(value > 0.5), "probability": max(value, 1 - value)} for value in right]
    write(tmp_path, "test_examples", tests)
    rows = [
        {"method": method, "rank": rank, "test_index": test, "train_index": train if rank == 1 else 9}
        for method, lines in {**BEST, "nearest_neighbour": [[9] * 3] * 2}.items()
        for rank in (2, 1)
        for test, train in reversed(list(enumerate(np.array(lines).ravel().tolist())))
    ]
    write(tmp_path, "top_k", rows)
    grid = np.array([[x, y] for y in LINES for x in COLUMNS], np.float32)
    found = read_plane(open_store(tmp_path), POINTS, grid, outlier=OUTLIER)
    assert {method: values.tolist() for method, values in found.explaining.items()} == BEST
    assert found.right.tolist() == RIGHT
    assert (found.columns.tolist(), found.lines.tolist()) == (COLUMNS.tolist(), LINES.tolist())
    assert (found.labels.tolist(), found.losses.tolist()) == (LABELS.tolist(), LOSSES.tolist())


def test_the_summary_counts_examples_shares_and_losses() -> None:
    lines = plane_text(plane()).splitlines()
    assert lines[0].endswith("explain 6 points of the plane best")
    assert [line.split() for line in lines[3:6]] == [
        ["IF", "2", "of", "4", "83.3%", "1.125"],
        ["theta-RelatIF", "4", "of", "4", "16.7%", "0.875"],
        ["l-RelatIF", "3", "of", "4", "0.0%", "0.500"],
    ]
    assert lines[-1] == "mean loss of all training examples 0.875, of the outlier 2.000"


def shares_of_panels(png: bytes) -> list[float]:
    """The share of each third of the picture, above the legend, that has the outlier's colour."""
    image: NDArray[np.uint8] = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    wanted = np.round(255 * np.array(to_rgb(OUTLIER_COLOUR)))
    coloured = (np.abs(image[: int(0.8 * len(image))] - wanted) <= 1).all(axis=2)
    return [float(part.mean()) for part in np.array_split(coloured, len(SHOWN), axis=1)]


@pytest.mark.parametrize("turn", range(3))
def test_each_panel_has_as_much_of_the_outliers_colour_as_the_outlier_explains(turn: int) -> None:
    counts = [1, 3, 6]
    counts = counts[turn:] + counts[:turn]
    best = {
        method: np.where(np.arange(6) < count, OUTLIER, 1).reshape(2, 3).tolist()
        for method, count in zip(SHOWN, counts, strict=True)
    }
    shares = shares_of_panels(draw_plane(plane(best)))
    unit = shares[counts.index(6)] / 6
    assert unit > 0.05
    # Markers, edges and the boundary cover some of it.
    np.testing.assert_allclose(shares, np.multiply(counts, unit), atol=unit / 3)
    none = {method: [[0, 1, 2], [2, 1, 0]] for method in SHOWN}
    assert max(shares_of_panels(draw_plane(plane(none)))) == 0


def test_the_same_plane_gives_the_same_picture() -> None:
    first = draw_plane(plane())
    assert first == draw_plane(plane())
    image = Image.open(io.BytesIO(first))
    assert image.format == "PNG"
    assert min(image.size) > 800
