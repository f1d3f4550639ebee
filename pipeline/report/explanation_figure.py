"""An explanation as one picture: the input, and beside it the first examples by each method, row by row."""

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from relatif.pipeline.report.drawing import png
from relatif.pipeline.showing.shown import Media, Shown, ShownExample, amount, fits_sharply, label_text, probability

EXAMPLES = 6
"""Training examples of each method that are drawn."""

SIDE, WORDS, HEAD = 1.75, 0.7, 0.75
"""Inches of a place for an example, for the words above and below it, and above them all."""

LINE, LINES, CELLS = 20, 9, 8
"""Characters and lines of a text, and columns of a row, that fit into a place."""

DOUBT = "#7a5200"
"""Colour of labels with which the model disagrees."""


def explanation_png(shown: Shown) -> bytes:
    """Return the picture of an explanation as PNG, on white."""
    methods = [method for method in shown.methods if method.helps]
    columns = min(EXAMPLES, max(len(method.helps) for method in methods))
    size = (SIDE * (columns + 1) + 0.4, (SIDE + WORDS) * len(methods) + HEAD)

    def draw(figure: Figure) -> None:
        figure.set_facecolor("white")
        grid = figure.subplots(len(methods), columns + 1, squeeze=False)
        for row, method in zip(grid, methods, strict=True):
            for axes, example in zip(row[1:], method.helps, strict=False):
                _draw_example(axes, shown, example)
            for axes in row[len(method.helps) + 1 :]:
                axes.set_axis_off()
            row[1].set_ylabel(method.title, fontsize=10, fontweight="bold")
        _draw_input(list(grid[:, 0]), shown)
        figure.supxlabel(textwrap.fill(shown.meaning, 24 * columns), fontsize=7)

    return png(size, draw)


def _draw_input(column: Sequence[Axes], shown: Shown) -> None:
    first, *others = column
    _draw_media(first, shown.media)
    facts = [f"{name}: {value}" for name, value in shown.facts if value]
    first.set_title("\n".join(textwrap.wrap(shown.told, LINE + 4)[:2]), fontsize=9, fontweight="bold", parse_math=False)
    first.set_xlabel("\n".join(textwrap.shorten(fact, LINE + 10) for fact in facts), fontsize=7, parse_math=False)
    for axes in others:
        axes.set_axis_off()


def _draw_example(axes: Axes, shown: Shown, example: ShownExample) -> None:
    _draw_media(axes, example.media)
    title = label_text(example) or f"no. {example.name}"
    colour = "black" if example.predicted is None else DOUBT
    axes.set_title(textwrap.shorten(title, LINE + 4, placeholder="…"), fontsize=8, color=colour, parse_math=False)
    figures = [amount(example.effect, shown.unit), probability(example.probability)]
    corrected = amount(example.corrected, shown.unit)
    lines = [
        textwrap.shorten(f"no. {example.name}", LINE + 8, placeholder="…"),
        " · ".join(filter(None, figures)),
        f"corrected {corrected}" if corrected else "",
    ]
    axes.set_xlabel("\n".join(filter(None, lines)), fontsize=7, parse_math=False)


def _draw_media(axes: Axes, media: Media) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    if media.picture is not None:
        smooth = "nearest" if fits_sharply(media.picture) else "antialiased"
        # One channel is drawn as ink on paper, as on the report's pages.
        axes.imshow(media.picture, cmap="gray_r", vmin=0, vmax=255, interpolation=smooth)
        rows, columns = media.picture.shape[:2]
        half = max(rows, columns) / 2
        axes.set_xlim(columns / 2 - half - 0.5, columns / 2 + half - 0.5)
        axes.set_ylim(rows / 2 + half - 0.5, rows / 2 - half - 0.5)
        return
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_box_aspect(1)
    lines = [line for part in (media.text or "").splitlines() for line in textwrap.wrap(part, LINE)]
    lines += [textwrap.shorten(f"{name} {value}", LINE, placeholder="…") for name, value in (media.row or ())[:CELLS]]
    axes.text(0.04, 0.96, "\n".join(lines[:LINES]), fontsize=7, va="top", ha="left", parse_math=False)
