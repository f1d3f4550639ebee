"""The linear datamodeling score as text and as a picture.

Axes: M test inputs, S subsets.
"""

import io
from collections.abc import Mapping

import matplotlib as mpl
import numpy as np
import pyarrow as pa
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from relatif.pipeline.influence.correlation import spearman
from relatif.pipeline.report.detection import COLOURS, DASHES, DOTS_PER_INCH
from relatif.pipeline.report.tables import METHOD_NAMES, aligned


def linear_datamodeling_text(table: pa.Table, said: Mapping[str, str]) -> str:
    """Return each method's mean rank correlation with its confidence interval; ``said`` is the table's metadata."""
    lines = [["method", "test inputs", "score", "95% interval"]]
    lines += [
        [
            METHOD_NAMES[row["method"]],
            f"{row['test_count']:,}",
            f"{row['score']:.3f}",
            f"{row['low']:.3f} to {row['high']:.3f}",
        ]
        for row in table.to_pylist()
    ]
    models = f"{table['subset_count'][0].as_py():,} subsets, {said['trainings']} model(s) of each"
    return (
        f"linear_datamodeling: {said['curvature']}, damping {said['damping']}; {models}\n({said['subsets']}; "
        f"score: mean rank correlation of summed scores with -loss)\n\n{aligned(lines, '<>>>')}"
    )


def draw_correlations(sums: Mapping[str, Tensor], losses: Tensor) -> bytes:
    """Return a PNG of the test inputs' rank correlations, in rising order, a curve for each method; all are [M, S]."""
    with mpl.rc_context({"font.size": 11, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(8, 5.5), dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        for (method, values), colour, dashes in zip(sums.items(), COLOURS, DASHES, strict=False):
            found = spearman(values, -losses)
            # An input whose loss is the same everywhere has none.
            defined = found[~found.isnan()].sort().values
            places = (np.arange(len(defined)) + 0.5) / len(defined)
            label = f"{METHOD_NAMES[method]} (mean {defined.mean():.3f})"
            axes.plot(places, defined.numpy(), color=colour, linestyle=dashes, marker="o", markersize=3, label=label)
        axes.axhline(0, color="grey", linewidth=0.8)
        axes.set(xlim=(0, 1), ylim=(min(-0.1, axes.get_ylim()[0]), 1.02))
        axes.set_xlabel("share of the test inputs, in rising order of the correlation")
        axes.set_ylabel("rank correlation of summed scores with minus the loss")
        axes.set_title(f"Do summed scores say what training on a subset gives? ({losses.shape[1]:,} subsets)")
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right", frameon=False)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
