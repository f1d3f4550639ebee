"""Fig. 6 as a picture: predicted against actual change of test loss, a panel for each curvature.

Axes: R pairs of a method.
"""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from relatif.pipeline.influence.correlation import pearson, spearman
from relatif.pipeline.report.drawing import COLOURS, MARKERS, png
from relatif.pipeline.report.leave_one_out import ACTUAL, PREDICTED, changes_of, curvatures_of
from relatif.schemas.methods import METHODS, in_order

Values = NDArray[np.float64]

LINEAR_SHARE = 0.05
"""Quantile of the changes' sizes below which an axis is linear: their logarithm has no place for 0."""

WITHOUT_UNIT = "identity"
"""The curvature whose predictions have a scale of their own: they order pairs, and estimate no change."""


@dataclass(frozen=True)
class Scale:
    """A symlog axis: its linear threshold, its limit, and whether it shows both signs."""

    linear: float
    largest: float
    signed: bool

    @property
    def limits(self) -> tuple[float, float]:
        """Where the axis begins and ends."""
        return (-1.5 * self.largest if self.signed else 0.0), 1.5 * self.largest

    def line(self) -> Values:
        """Return values along the axis, as dense as they are drawn."""
        upper = np.geomspace(self.linear, 1.5 * self.largest, 50)
        return np.concatenate([-upper[::-1] if self.signed else [0.0], upper])


def draw_changes(table: pa.Table, predictions: pa.Table) -> bytes:
    """Return a PNG: the pairs of leave_one_out by method, at what each curvature of the predictions' table predicts."""
    curvatures = curvatures_of(predictions)
    columns = len(curvatures) if len(curvatures) <= 3 else math.ceil(len(curvatures) / 2)
    rows = math.ceil(len(curvatures) / columns)
    comparable = predictions.filter(pc.not_equal(predictions["curvature"], WITHOUT_UNIT))
    shared = _scale(np.concatenate([_values(predictions, ACTUAL), _values(comparable, PREDICTED)]))
    size = (7.5, 6.5) if len(curvatures) == 1 else (0.6 + 4.3 * columns, 1.2 + 4.4 * rows)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
        for axes, curvature in zip(grid.flat, curvatures, strict=False):
            _draw_panel(axes, table, predictions.filter(pc.equal(predictions["curvature"], curvature)), shared)
        for axes in grid.flat[len(curvatures) :]:
            axes.set_axis_off()
        unit = "nats; the identity's scale is its own" if WITHOUT_UNIT in curvatures else "nats"
        figure.supxlabel(f"predicted change of test loss ({unit})")
        figure.supylabel("actual change of test loss after retraining (nats)")
        figure.suptitle("One training example left out: influence's prediction and retraining")
        handles, labels = max((axes.get_legend_handles_labels() for axes in grid.flat), key=lambda found: len(found[1]))
        grid.flat[0].legend(handles, labels, frameon=False, loc="upper left")

    return png(size, draw)


def _draw_panel(axes: Axes, table: pa.Table, mine: pa.Table, shared: Scale) -> None:
    """Draw one curvature's predictions of the pairs of ``table``."""
    curvature = mine["curvature"][0].as_py()
    predicted = _values(mine, PREDICTED)
    own = _scale(predicted) if curvature == WITHOUT_UNIT else shared
    change_of = dict(zip(_pairs(mine), predicted, strict=True))
    methods = in_order(pc.unique(table["method"]).to_pylist())
    for method, colour, marker in zip(methods, COLOURS, MARKERS, strict=False):
        rows = table.filter(pc.equal(table["method"], method))
        x, y = np.array([change_of[pair] for pair in _pairs(rows)]), _values(rows, ACTUAL)
        label = METHODS[method].title
        axes.scatter(x, y, s=26, marker=marker, color=colour, alpha=0.7, label=label)
    if curvature != WITHOUT_UNIT:
        axes.plot(shared.line(), shared.line(), color="black", linewidth=1, label="equal", zorder=1)
    axes.set_xscale("symlog", linthresh=own.linear)
    axes.set_yscale("symlog", linthresh=shared.linear)
    axes.set_xlim(*own.limits)
    axes.set_ylim(*shared.limits)
    axes.tick_params(axis="x", labelrotation=90)
    agreement = [f"{measure(*changes_of(mine)):.3f}" for measure in (pearson, spearman)]
    axes.set_title(f"{curvature}: Pearson {agreement[0]}, Spearman {agreement[1]}")


def _scale(values: Values) -> Scale:
    sizes = np.abs(values)
    largest = float(sizes.max()) or 1.0
    smallest = float(np.quantile(sizes[sizes > 0], LINEAR_SHARE)) if sizes.any() else largest
    # A power of ten carries a label: another bound has its nearest label crowded against 0.
    return Scale(10.0 ** math.floor(math.log10(smallest)), largest, signed=bool(values.min() < 0))


def _values(table: pa.Table, name: str) -> Values:
    return np.asarray(table[name].to_numpy(), np.float64)


def _pairs(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(table["test_index"].to_pylist(), table["train_index"].to_pylist(), strict=True))
