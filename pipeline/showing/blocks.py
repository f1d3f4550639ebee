"""Pictures in a terminal: two pixels in each character, the upper half of a block before the lower one's colour."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.console import Console
from rich.style import Style
from rich.text import Text

UPPER_HALF = "▀"
WIDEST = 20
"""Columns of a terminal that a picture takes; larger ones are reduced."""

APART = 2


def can_show(console: Console) -> bool:
    """Return whether pictures can be drawn: in a terminal with colours, and not in a file or a pipe."""
    shades = console.color_system in ("256", "truecolor")
    return console.is_terminal and shades and "utf" in console.encoding.lower()


def block_lines(picture: NDArray[np.uint8]) -> list[Text]:
    """Return the lines of a picture, uint8 [rows, columns] or [rows, columns, 3]."""
    image = Image.fromarray(picture).convert("RGB")
    if image.width > WIDEST:
        image = image.resize((WIDEST, max(1, round(image.height * WIDEST / image.width))), Image.Resampling.BOX)
    pixels = np.asarray(image)
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    lines = []
    for upper, lower in zip(pixels[::2], pixels[1::2], strict=True):
        line = Text()
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            line.append(UPPER_HALF, Style(color=Color.from_rgb(*above), bgcolor=Color.from_rgb(*below)))
        lines.append(line)
    return lines


def strip(pictures: Sequence[tuple[NDArray[np.uint8], str]], width: int) -> list[Text]:
    """Return lines with as many pictures side by side as fit into a width, each with its caption below."""
    columns = [[*block_lines(picture), Text(_cut(caption))] for picture, caption in pictures]
    fitting = max(1, (width + APART) // (WIDEST + APART))
    columns = columns[:fitting]
    height = max(map(len, columns), default=0)
    lines = [Text() for _ in range(height)]
    for column in columns:
        for place, line in enumerate(lines):
            line.append_text(column[place] if place < len(column) else Text())
            line.append(" " * (WIDEST + APART - len(column[place].plain if place < len(column) else "")))
    return lines


def _cut(text: str) -> str:
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
