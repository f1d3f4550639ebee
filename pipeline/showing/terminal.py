"""An explanation in a terminal: the input, then for each method a table of the examples that help and harm."""

import io
from collections.abc import Sequence
from typing import Literal, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from relatif.pipeline.showing.blocks import can_show, strip
from relatif.pipeline.showing.shown import (
    NOT_BY_TOKEN,
    Media,
    Shown,
    ShownExample,
    ShownMethod,
    amount,
    amounts,
    label_text,
    largest,
    numbers,
    probability,
    row_text,
)

PIPED_WIDTH = 120
"""Columns of lines that no terminal bounds."""

PARTS, LONGEST_CELL, NARROWEST, APART = 8, 400, 12, 3
"""Parts of a score that are named, characters of a text, columns of the screen that a text has, and between columns."""

LONGEST_LABEL = 32

HEAD_LINES, INDENT = 2, 7
"""Lines of a table above its rows, and columns of the screen before what stands below a row."""

Column = tuple[str, list[str], Literal["left", "right"]]
"""A column's name, its cells, and the side where they stand."""


def print_explanation(shown: Shown, console: Console) -> None:
    """Print an explanation; pictures only where the console can show them, texts cut to its width."""
    console.print(Text(shown.told, style="bold"))
    facts = " · ".join(f"{name} {value}" for name, value in shown.facts if value)
    for line in filter(None, [facts, *(f"note: {note}" for note in shown.notes)]):
        console.print(Text(line), soft_wrap=not console.is_terminal)
    _print_media(shown.media, console)
    for method in shown.methods:
        for examples, word in ((method.helps, ""), (method.harms, ": the examples that harm")):
            if examples:
                _print_examples(shown, method, examples, word, console)
    console.print()
    console.print(Text(shown.meaning, style="dim"))


def text_of(shown: Shown) -> str:
    """Return what a pipe gets of an explanation, without the last line break."""
    stream = io.StringIO()
    print_explanation(shown, console_of(stream))
    return stream.getvalue().rstrip("\n")


def console_of(stream: TextIO | None = None) -> Console:
    """Return a console on standard output, or on a stream; what no terminal bounds has lines of PIPED_WIDTH."""
    made = Console(file=stream, highlight=False)
    return made if made.is_terminal else Console(file=stream, highlight=False, width=PIPED_WIDTH)


def _print_media(media: Media, console: Console) -> None:
    if media.picture is not None and can_show(console):
        for line in strip([(media.picture, "")], console.width)[:-1]:
            console.print(line)
    if media.text is not None:
        console.print(Text(media.text[:LONGEST_CELL]))
    if media.row is not None:
        console.print(Text(row_text(media.row)))


def _print_examples(
    shown: Shown, method: ShownMethod, examples: Sequence[ShownExample], word: str, console: Console
) -> None:
    console.print()
    console.print(Text(f"{method.title}{word}", style="bold"))
    pictures = [
        (each.media.picture, f"{each.rank}: {label_text(each)}") for each in examples if each.media.picture is not None
    ]
    if pictures and can_show(console):
        for line in strip(pictures, console.width):
            console.print(line)
    table = _table(shown, examples, console.width)
    lines = console.render_lines(table, console.options.update(width=table.width or console.width), pad=False)
    for segments in lines[:HEAD_LINES]:
        console.print(Segments([*segments, Segment.line()]), crop=False)
    # Cells are never wrapped, so that each example has one line.
    for example, segments in zip(examples, lines[HEAD_LINES:], strict=True):
        console.print(Segments([*segments, Segment.line()]), crop=False)
        parts = _parts(example)
        if parts:
            console.print(Padding(Text(f"by {shown.by}: {parts}", style="dim"), (0, 0, 0, INDENT), expand=False))


def _table(shown: Shown, examples: Sequence[ShownExample], width: int) -> Table:
    """Return a table with the columns that any of the examples has something in; texts share what the others leave.

    Figures are not cut: in a terminal that is too narrow for them the table is wider.
    """
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    fixed = [column for column in _numbers(shown, examples) if any(column[1])]
    wide = [column for column in _texts(examples) if any(column[1])]
    taken = sum(max(map(cell_len, [name, *values])) + APART for name, values, _ in fixed)
    widths = _shared(width - taken, [max(map(cell_len, values)) for _, values, _ in wide])
    for name, values, side in fixed:
        table.add_column(name, justify=side, no_wrap=True, min_width=max(map(cell_len, values)))
    for (name, _, side), most in zip(wide, widths, strict=True):
        table.add_column(name, justify=side, no_wrap=True, max_width=most, overflow="ellipsis")
    for place in range(len(examples)):
        # A name with a line break would make a row of two lines.
        table.add_row(*(Text(" ".join(values[place].splitlines())) for _, values, _ in (*fixed, *wide)))
    needed = taken + sum(widths) + APART * len(widths)
    table.width = needed if needed > width else None
    return table


def _shared(width: int, needed: Sequence[int]) -> list[int]:
    """Return the widths of columns that share one: what they need, the widest the same part of what is left.

    >>> _shared(106, [20, 90, 300])
    [20, 38, 39]
    """
    left, found = width - APART * len(needed), dict[int, int]()
    for place in sorted(range(len(needed)), key=needed.__getitem__):
        found[place] = max(NARROWEST, min(needed[place], left // (len(needed) - len(found))))
        left -= found[place]
    return [found[place] for place in range(len(needed))]


def _numbers(shown: Shown, examples: Sequence[ShownExample]) -> list[Column]:
    return [
        ("rank", [str(each.rank) for each in examples], "right"),
        ("example", [each.name for each in examples], "left"),
        ("label", [_cut(label_text(each)) for each in examples], "left"),
        ("probability", [probability(each.probability) for each in examples], "right"),
        ("score", numbers([each.score for each in examples]), "right"),
        ("effect", amounts([each.effect for each in examples], shown.unit), "right"),
        ("corrected", amounts([each.corrected for each in examples], shown.unit), "right"),
    ]


def _texts(examples: Sequence[ShownExample]) -> list[Column]:
    return [
        ("text", [" ".join((each.media.text or "").split())[:LONGEST_CELL] for each in examples], "left"),
        ("row", [row_text(each.media.row or ()) for each in examples], "left"),
    ]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_LABEL else f"{text[: LONGEST_LABEL - 1]}…"


def _parts(example: ShownExample) -> str:
    """Return the largest parts, strongest first, and then what belongs to no token; nothing where all is one layer."""
    if len(example.parts) < 2 and example.rest is None:
        return ""
    listed = largest(example.parts, PARTS)
    named = [*listed, *([] if example.rest is None else [(NOT_BY_TOKEN, example.rest)])]
    return ", ".join(f"{name.strip() or repr(name)} {amount(value, '')}" for name, value in named)
