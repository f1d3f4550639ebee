"""Rows of pictures with captions as one PNG: test inputs beside the training examples that explain them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from relatif.pipeline.report.drawing import png
from relatif.pipeline.report.page.sprites import Tile

CELL_INCHES, CAPTION_INCHES = 0.62, 0.24
GAP = 0.15
"""Of a cell's side, between cells."""

LETTERS = 11
"""Letters of a caption that fit below a picture."""


@dataclass(frozen=True, eq=False)
class Cell:
    """A picture with what stands below it; ``wrong`` captions are marked by a word and by italics."""

    tile: Tile
    caption: str
    wrong: bool = False


@dataclass(frozen=True, eq=False)
class Mosaic:
    """Rows of cells, None for an empty place; ``titles`` stand above columns, ``names`` before rows."""

    rows: Sequence[Sequence[Cell | None]]
    titles: Sequence[tuple[float, str]] = ()
    names: Sequence[str] = ()


def draw(mosaic: Mosaic) -> bytes:
    """Return the rows as PNG; equal rows give equal bytes."""
    columns, lines = max(map(len, mosaic.rows)), len(mosaic.rows)
    high = 1 + CAPTION_INCHES / CELL_INCHES
    left = 1.6 if mosaic.names else 0.0

    def drawn(figure: Figure) -> None:
        axes = figure.add_subplot()
        for line, row in enumerate(mosaic.rows):
            for column, cell in enumerate(row):
                if cell is not None:
                    x, y = column * (1.0 + GAP), line * (high + GAP)
                    axes.imshow(_rgb(cell.tile), extent=(x, x + 1, y + 1, y), interpolation="nearest", aspect="equal")
                    style = "italic" if cell.wrong else "normal"
                    axes.text(x + 0.5, y + 1.05, _short(cell.caption), ha="center", va="top", fontsize=6, style=style)
        for line, name in enumerate(mosaic.names):
            axes.text(-0.15, line * (high + GAP) + 0.5, name, ha="right", va="center", fontsize=7)
        for start, title in mosaic.titles:
            axes.text(start * (1 + GAP), -0.15, title, ha="left", va="bottom", fontsize=8)
        axes.set_xlim(-left, columns * (1 + GAP))
        axes.set_ylim(lines * (high + GAP), -0.5 if mosaic.titles else 0.0)
        axes.set_axis_off()

    width = (columns * (1 + GAP) + left) * CELL_INCHES
    height = (lines * (high + GAP) + (0.5 if mosaic.titles else 0.0)) * CELL_INCHES
    return png((width, height), drawn)


def _rgb(tile: Tile) -> NDArray[np.uint8]:
    # One channel is drawn as ink on paper.
    return np.repeat((255 - tile)[..., None], 3, axis=2) if tile.ndim == 2 else tile


def _short(caption: str) -> str:
    lines = [line if len(line) <= LETTERS else f"{line[: LETTERS - 1]}…" for line in caption.split("\n")]
    # A dollar would begin mathematics.
    return "\n".join(lines).replace("$", r"\$")
