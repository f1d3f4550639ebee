"""What all pictures share: the frame, the resolution and the palette."""

import io
from collections.abc import Callable

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
DASHES = ("solid", "dashed", "dotted", "dashdot")
MARKERS = ("o", "^", "s", "x", "D", "v")
"""Okabe and Ito's palette with dashes and markers, for colour-blind eyes and curves that lie on each other."""

DOTS_PER_INCH = 150


def png(size: tuple[float, float], draw: Callable[[Figure], None]) -> bytes:
    """Return what ``draw`` draws, ``size`` inches wide and high, as PNG; equal drawings give equal bytes."""
    with mpl.rc_context({"font.size": 11, "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=size, dpi=DOTS_PER_INCH, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure)
        file = io.BytesIO()
        figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()
