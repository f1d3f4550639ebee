"""Leave-one-out retraining beside the paper's: Tables 2 and 4 as text, Fig. 6 as figures and as a picture.

Axes: R rows of the table, M test inputs of a method.
"""

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pipeline.report.paper import LEAVE_ONE_OUT_COUNT, TABLE_2, TABLE_4, MeanAndError
from pipeline.report.tables import METHOD_NAMES, aligned
from schemas.tables import METHODS

Values = NDArray[np.float64]

CHANGES = {
    "test_loss_change": "change of test loss",
    "parameter_change": "norm of parameter change",
    "train_loss_change": "change of training loss",
}
"""Columns of Table 2; the last is the root of the sum of squares."""

RATIOS = {"parameter_change": "test-loss / parameter change", "train_loss_change": "test-loss / training-loss change"}
"""Columns of Table 4, by what the change of test loss is divided by, for each test input."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MARKERS = ("o", "^", "s", "x")
"""Okabe and Ito's palette, with markers for those who don't tell the colours apart."""

LINEAR_SHARE = 0.05
"""Quantile of the changes' sizes below which the picture's axes are linear: their logarithm has no place for 0."""

DOTS_PER_INCH = 150


def leave_one_out_text(table: pa.Table, *, paper: str | None) -> str:
    """Return Table 2, Table 4 and the correlations of Fig. 6, beside the paper's for the experiment ``paper``."""
    tests = len(pc.unique(table["test_index"]))
    removed = len(pc.unique(table["train_index"]))
    parts = [
        f"Table 2: the best training example left out, {tests:,} test inputs, {removed:,} retrainings\n"
        f"(mean ± standard error; training loss: root of the sum of squared changes)",
        _block(table, list(CHANGES), list(CHANGES.values()), TABLE_2.get(paper or "")),
        "Table 4: ratios of Table 2's quantities, for each test input (mean ± standard error)",
        _block(table, [f"ratio {name}" for name in RATIOS], list(RATIOS.values()), TABLE_4.get(paper or "")),
        agreement_text(table),
    ]
    if paper in TABLE_2 and tests != LEAVE_ONE_OUT_COUNT:
        parts.insert(4, f"The paper's figures are over {LEAVE_ONE_OUT_COUNT} test inputs.")
    return "\n\n".join(parts)


def agreement_text(table: pa.Table) -> str:
    """Return how the predicted and the actual changes of test loss agree, over all distinct pairs of the table."""
    predicted, actual = distinct_changes(table)
    return (
        f"Fig. 6: predicted against actual change of test loss, {len(predicted):,} distinct pairs\n"
        f"Pearson's correlation {pearson(predicted, actual):.4f}, Spearman's {spearman(predicted, actual):.4f}, "
        f"actual = {slope(predicted, actual):.3f} x predicted (least squares)\n"
        f"median of actual / predicted {median_ratio(predicted, actual):.3f}"
    )


def distinct_changes(table: pa.Table) -> tuple[Values, Values]:
    """Return predicted and actual changes [R], each pair of test input and training example once."""
    names = ["predicted_test_loss_change", "test_loss_change"]
    found = {(row["test_index"], row["train_index"]): [row[name] for name in names] for row in table.to_pylist()}
    predicted, actual = np.array(list(found.values()), np.float64).reshape(-1, 2).T
    return predicted, actual


def mean_and_error(values: Values) -> MeanAndError:
    """Return the mean of [M] and its standard error, ``std / sqrt(M)`` with divisor M - 1 (0 for one value)."""
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return MeanAndError(float(values.mean()), float(error))


def pearson(x: Values, y: Values) -> float:
    """Return Pearson's correlation; not a number where one side is constant."""
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale else float("nan")


def spearman(x: Values, y: Values) -> float:
    """Return Spearman's correlation: Pearson's of the ranks, equal values sharing their mean rank."""
    return pearson(_ranks(x), _ranks(y))


def slope(x: Values, y: Values) -> float:
    """Return the c that minimizes ``||y - c x||``; not a number where all x are zero."""
    return float(x @ y) / float(x @ x) if x.any() else float("nan")


def median_ratio(x: Values, y: Values) -> float:
    """Return the median of y / x where x is not 0: large changes, with their second-order part, count no more."""
    return float(np.median(y[x != 0] / x[x != 0])) if x.any() else float("nan")


def draw_changes(table: pa.Table) -> bytes:
    """Return a PNG of predicted against actual change of test loss, with the line on which they are equal."""
    predicted, actual = distinct_changes(table)
    sizes = np.abs(np.concatenate([predicted, actual]))
    largest = float(sizes.max()) or 1.0
    linear = float(np.quantile(sizes[sizes > 0], LINEAR_SHARE)) if sizes.any() else largest
    with mpl.rc_context({"font.size": 11, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(7.5, 6.5), dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for method, colour, marker in zip(METHODS, COLOURS, MARKERS, strict=True):
            rows = table.filter(pc.equal(table["method"], method))
            axes.scatter(
                rows["predicted_test_loss_change"].to_numpy(),
                rows["test_loss_change"].to_numpy(),
                s=26,
                marker=marker,
                color=colour,
                alpha=0.7,
                label=METHOD_NAMES[method],
            )
        ends = np.array([-largest, largest])
        line = np.concatenate([-np.geomspace(largest, linear, 50), np.geomspace(linear, largest, 50)])
        axes.plot(line, line, color="black", linewidth=1, label="equal", zorder=1)
        for set_scale, set_limits in ((axes.set_xscale, axes.set_xlim), (axes.set_yscale, axes.set_ylim)):
            set_scale("symlog", linthresh=linear)
            set_limits(*(1.5 * ends if predicted.min() < 0 or actual.min() < 0 else (0, 1.5 * largest)))
        axes.tick_params(axis="x", labelrotation=90)
        axes.set_xlabel("predicted change of test loss (nats)")
        axes.set_ylabel("actual change of test loss after retraining (nats)")
        axes.set_title("One training example left out: influence's prediction and retraining")
        axes.legend(frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _block(
    table: pa.Table, columns: Sequence[str], titles: Sequence[str], theirs: Mapping[str, Sequence[MeanAndError]] | None
) -> str:
    rows = [["method", "", *titles]]
    for method in METHODS:
        mine = table.filter(pc.equal(table["method"], method))
        ours = [_cell(mean_and_error(_column(mine, name)), name) for name in columns] if len(mine) else []
        rows.append([METHOD_NAMES[method], "" if theirs is None else "ours", *(ours or ["-"] * len(columns))])
        if theirs is not None:
            rows.append(["", "paper", *map(_cell, theirs[method], columns)])
    return aligned(rows, "<<" + ">" * len(columns))


def _column(table: pa.Table, name: str) -> Values:
    if name.startswith("ratio "):
        return _column(table, "test_loss_change") / _column(table, name.removeprefix("ratio "))
    return np.asarray(table[name].to_numpy(), np.float64)


def _cell(figures: MeanAndError, column: str) -> str:
    digits = 4 if column == "test_loss_change" else 3  # the paper's
    return f"{figures.mean:.{digits}f} ± {figures.error:.{digits}f}"


def _ranks(values: Values) -> Values:
    low, high = (pc.rank(pa.array(values), tiebreaker=mode).to_numpy() for mode in ("min", "max"))
    return np.asarray((low + high) / 2, np.float64)
