"""How early each ranking finds wrong labels, as a picture."""

from collections.abc import Mapping
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from relatif.pipeline.influence.evaluation import Detection
from relatif.pipeline.report.drawing import COLOURS, DASHES, png

POINTS = 1001


def draw_detection(found: Mapping[str, Detection]) -> bytes:
    """Return a PNG of the share of wrong labels found over the share inspected, a curve for each ranking."""
    return png((8, 6), partial(_draw, found))


def _draw(found: Mapping[str, Detection], figure: Figure) -> None:
    axes = figure.subplots()
    # By falling area, so that the legend begins with the best ranking.
    for place, (name, each) in enumerate(sorted(found.items(), key=lambda item: -item[1].area)):
        inspected, share = (values.numpy() for values in each.curve(POINTS))
        colour, dashes = COLOURS[place % len(COLOURS)], DASHES[place % len(DASHES)]
        axes.plot(inspected, share, color=colour, linestyle=dashes, label=f"{name} ({each.area:.3f})")
    first = next(iter(found.values()))
    wrong = len(first.places) / first.total
    axes.plot([0, wrong, 1], [0, 1, 1], color="black", linewidth=0.8, label=f"best possible ({1 - wrong / 2:.3f})")
    axes.plot([0, 1], [0, 1], color="grey", linewidth=0.8, label="chance (0.500)")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xticks=np.linspace(0, 1, 11), yticks=np.linspace(0, 1, 11))
    axes.set_xlabel("share of training examples inspected, highest first")
    axes.set_ylabel("share of flipped labels found")
    axes.set_title(f"Which ranking finds the {len(first.places):,} flipped labels of {first.total:,} first?")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", title="ranking (area below its curve)")
