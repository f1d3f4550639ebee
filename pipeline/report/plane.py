"""Which training example explains every point of the plane, as in the paper's Fig. 1: a summary and a picture.

Axes: R lines of the grid from below, C columns from the left, N training examples.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from relatif.pipeline.report.drawing import COLOURS, MARKERS, png
from relatif.pipeline.storage.parquet import read_table
from relatif.pipeline.storage.store import Store
from relatif.schemas.methods import METHODS
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K, TRAIN_EXAMPLES

SHOWN = ("influence", "theta_relatif", "l_relatif")

OUTLIER_COLOUR = "#F0C74A"
SHADES = ("#FFFFFF", "#E9EEF2", "#D5DCE2")
EDGE_COLOUR = "#9AA5AE"
"""Regions of ordinary examples are white to grey with edges; the outlier's alone has a colour.

Blue and vermilion of Okabe and Ito's palette, and yellow, are told apart by colour-blind eyes too.
"""

PANEL_PIXELS = 800
"""Longer side of a panel's picture, about as many as are printed: an edge is one of them wide."""


@dataclass(frozen=True, eq=False)
class Plane:
    """Training points [N, 2] with labels and losses [N], and a grid of test points.

    ``explaining[method]`` [R, C] is the training example with the highest score, ``right`` [R, C] the model's
    probability of class 1; ``columns`` [C] and ``lines`` [R] are the grid's coordinates, ``outlier`` is a training row.
    """

    points: NDArray[np.float32]
    labels: NDArray[np.integer]
    losses: NDArray[np.float32]
    outlier: int
    columns: NDArray[np.float32]
    lines: NDArray[np.float32]
    right: NDArray[np.float32]
    explaining: Mapping[str, NDArray[np.int64]]

    def examples(self, method: str) -> NDArray[np.int64]:
        """Return the training examples that explain some point."""
        return np.unique(self.explaining[method])

    def outlier_share(self, method: str) -> float:
        """Return the share of the plane that the outlier explains."""
        return float((self.explaining[method] == self.outlier).mean())


def read_plane(tables: Store, points: NDArray[np.float32], grid: NDArray[np.float32], *, outlier: int) -> Plane:
    """Return the plane of training points [N, 2] and grid points [R * C, 2], line by line, from a run's tables."""
    columns, lines = np.unique(grid[:, 0]), np.unique(grid[:, 1])
    shape = len(lines), len(columns)
    train = read_table(tables, TRAIN_EXAMPLES.name, ["label", "loss"])
    tests = read_table(tables, TEST_EXAMPLES.name, ["explained_label", "probability"])
    probability = tests["probability"].to_numpy()
    best = read_table(tables, TOP_K.name, ["method", "rank", "test_index", "train_index"])
    best = best.filter(pc.equal(best["rank"], 1)).sort_by("test_index")
    return Plane(
        points=points,
        labels=train["label"].to_numpy(),
        losses=train["loss"].to_numpy(),
        outlier=outlier,
        columns=columns,
        lines=lines,
        right=np.where(tests["explained_label"].to_numpy() == 1, probability, 1 - probability).reshape(shape),
        explaining={
            method: best.filter(pc.equal(best["method"], method))["train_index"].to_numpy().reshape(shape)
            for method in SHOWN
        },
    )


def plane_text(plane: Plane) -> str:
    """Return how many examples explain the plane by each method, the outlier's share, and how high their losses are."""
    count, losses = len(plane.points), plane.losses
    rows = [("method", "examples that explain it", "outlier's share", "their mean loss")]
    for method in SHOWN:
        found = plane.examples(method)
        share, loss = f"{plane.outlier_share(method):.1%}", f"{losses[found].mean():.3f}"
        rows.append((METHODS[method].title, f"{len(found)} of {count}", share, loss))
    body = "\n".join(f"{name:<14}  {found:>24}  {share:>15}  {loss:>15}" for name, found, share, loss in rows)
    return (
        f"Fig. 1: the training examples that explain {plane.right.size:,} points of the plane best\n\n{body}\n\n"
        f"mean loss of all training examples {losses.mean():.3f}, of the outlier {losses[plane.outlier]:.3f}"
    )


def draw_plane(plane: Plane) -> bytes:
    """Return a PNG with a panel for each method: the plane by its explaining example, points, boundary, outlier."""

    def draw(figure: Figure) -> None:
        panels = figure.subplots(1, len(SHOWN), sharex=True, sharey=True)
        for axes, method in zip(panels, SHOWN, strict=True):
            _draw_panel(axes, plane, method)
        panels[0].set_ylabel("second feature")
        figure.suptitle("Which training example explains the prediction at each point of the plane?", fontsize=15)
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)

    return png((14, 6.3), draw)


def _draw_panel(axes: Axes, plane: Plane, method: str) -> None:
    explaining, found = plane.explaining[method], plane.examples(method)
    axes.imshow(
        _colours(explaining, found, plane.outlier),
        origin="lower",
        extent=(*_limits(plane.columns), *_limits(plane.lines)),
        interpolation="antialiased",
    )
    axes.contour(plane.columns, plane.lines, plane.right, levels=[0.5], colors="black", linestyles="dashed")
    axes.plot([], [], color="black", linestyle="dashed", label="decision boundary")
    axes.fill([], [], color=OUTLIER_COLOUR, label="explained by the outlier")
    axes.fill([], [], facecolor=SHADES[2], edgecolor="grey", label="by another example, one for each region")
    explains = np.isin(np.arange(len(plane.points)), found)
    for label, (colour, marker) in enumerate(zip(COLOURS[:2], MARKERS[:2], strict=True)):
        for chosen, face, name in ((explains, colour, "explains some point"), (~explains, "white", "explains none")):
            rows = (plane.labels == label) & chosen
            axes.scatter(
                plane.points[rows, 0],
                plane.points[rows, 1],
                marker=marker,
                s=34,
                facecolor=face,
                edgecolor=colour,
                linewidth=1.1,
                label=f"class {label}, {name}",
                zorder=3,
            )
    x, y = map(float, plane.points[plane.outlier])
    axes.scatter([x], [y], s=260, facecolor="none", edgecolor="black", linewidth=2, zorder=4)
    axes.annotate("outlier", (x, y), xytext=(-14, 0), textcoords="offset points", ha="right", va="center")
    share = plane.outlier_share(method)
    others = len(set(found.tolist()) - {plane.outlier})
    axes.set_title(f"{METHODS[method].title}\noutlier explains {share:.0%}, {others} other examples {1 - share:.0%}")
    axes.set_xlabel("first feature")


def _limits(coordinates: NDArray[np.float32]) -> tuple[float, float]:
    """Return where the first point's cell begins and the last one's ends."""
    half = float(coordinates[-1] - coordinates[0]) / (len(coordinates) - 1) / 2
    return float(coordinates[0]) - half, float(coordinates[-1]) + half


def _colours(explaining: NDArray[np.int64], found: NDArray[np.int64], outlier: int) -> NDArray[np.float64]:
    """Return a picture of the regions as red, green and blue; each point of the grid gets a square of pixels."""
    palette = np.array([mpl.colors.to_rgb(colour) for colour in (*SHADES, OUTLIER_COLOUR, EDGE_COLOUR)])
    pixels = max(1, PANEL_PIXELS // max(explaining.shape))
    fine = explaining.repeat(pixels, axis=0).repeat(pixels, axis=1)
    shades = np.where(fine == outlier, len(SHADES), np.searchsorted(found, fine) % len(SHADES))
    edges = np.zeros(fine.shape, bool)
    edges[:-1] |= fine[:-1] != fine[1:]
    edges[:, :-1] |= fine[:, :-1] != fine[:, 1:]
    return palette[np.where(edges, len(SHADES) + 1, shades)]
