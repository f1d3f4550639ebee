"""The linear datamodeling score as text and as a picture.

Axes: M test inputs, S subsets.
"""

from collections.abc import Mapping
from functools import partial
from itertools import cycle

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from matplotlib.figure import Figure
from torch import Tensor

from relatif.pipeline.influence.correlation import spearman
from relatif.pipeline.report.drawing import COLOURS, DASHES, png
from relatif.pipeline.report.tables import aligned
from relatif.schemas.methods import METHODS, in_order


def linear_datamodeling_text(table: pa.Table, said: Mapping[str, str]) -> str:
    """Return each method's mean rank correlation with its confidence interval; ``said`` is the table's metadata."""
    lines = [["method", "test inputs", "score", "95% interval"]]
    lines += [
        [
            METHODS[row["method"]].title,
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


def draw_correlations(pairs: pa.Table) -> bytes:
    """Return a PNG of the test inputs' rank correlations, in rising order, a curve for each method of the table."""
    return png((8, 5.5), partial(_draw, *sums_and_losses(pairs)))


def sums_and_losses(pairs: pa.Table) -> tuple[dict[str, Tensor], Tensor]:
    """Return from the table ``linear_datamodeling`` the sums by method, and the losses, all [M, S]."""
    subsets = len(pc.unique(pairs["subset"]))
    found = {}
    for method in in_order(pc.unique(pairs["method"]).to_pylist()):
        mine = pairs.filter(pc.equal(pairs["method"], method))
        mine = mine.sort_by([("test_index", "ascending"), ("subset", "ascending")])
        columns = (torch.from_numpy(mine[name].to_numpy().copy()).view(-1, subsets) for name in ("score_sum", "loss"))
        found[method] = tuple(columns)
    losses = next(iter(found.values()))[1]
    return {method: sums for method, (sums, _) in found.items()}, losses


def _draw(sums: Mapping[str, Tensor], losses: Tensor, figure: Figure) -> None:
    axes = figure.subplots()
    for (method, values), colour, dashes in zip(sums.items(), cycle(COLOURS), cycle(DASHES), strict=False):
        found = spearman(values, -losses)
        # A test input with the same loss after every training has no correlation.
        defined = found[~found.isnan()].sort().values
        places = (np.arange(len(defined)) + 0.5) / len(defined)
        label = f"{METHODS[method].title} (mean {defined.mean():.3f})"
        axes.plot(places, defined.numpy(), color=colour, linestyle=dashes, marker="o", markersize=3, label=label)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set(xlim=(0, 1), ylim=(min(-0.1, axes.get_ylim()[0]), 1.02))
    axes.set_xlabel("share of the test inputs, in rising order of the correlation")
    axes.set_ylabel("rank correlation of summed scores with minus the loss")
    axes.set_title(f"Do summed scores say what training on a subset gives? ({losses.shape[1]:,} subsets)")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", frameon=False)
