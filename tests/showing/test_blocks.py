"""Pictures in a terminal: two pixels a character, in their colours, and only where a terminal shows them."""

import io

import numpy as np
from rich.color import ColorTriplet
from rich.console import Console
from rich.text import Text

from relatif.pipeline.showing.blocks import APART, WIDEST, block_lines, can_show, strip


def colours(line: Text) -> list[tuple[ColorTriplet | None, ColorTriplet | None]]:
    return [
        (span.style.color.triplet, span.style.bgcolor.triplet)  # type: ignore[union-attr]
        for span in line.spans
    ]


def test_each_character_has_two_pixels() -> None:
    picture = np.array([[0, 255], [10, 20], [30, 40]], np.uint8)
    first, second = block_lines(picture)
    assert first.plain == "▀▀"
    assert colours(first) == [(ColorTriplet(0, 0, 0), ColorTriplet(10, 10, 10)), (
        ColorTriplet(255, 255, 255), ColorTriplet(20, 20, 20)
    )]  # fmt: skip
    assert colours(second)[1] == (ColorTriplet(40, 40, 40), ColorTriplet(40, 40, 40))


def test_larger_pictures_are_reduced() -> None:
    lines = block_lines(np.full((64, 80, 3), 9, np.uint8))
    assert {len(line.plain) for line in lines} == {WIDEST}
    assert len(lines) == 8
    assert set(colours(lines[0])) == {(ColorTriplet(9, 9, 9), ColorTriplet(9, 9, 9))}


def test_as_many_pictures_stand_side_by_side_as_fit() -> None:
    pictures = [
        (np.full((4, 4), 50 * place, np.uint8), f"{place}: a label that is too long for it") for place in range(5)
    ]
    lines = strip(pictures, 3 * (WIDEST + APART))
    assert len(lines) == 3
    assert {len(line.plain) for line in lines} == {3 * (WIDEST + APART)}
    assert lines[-1].plain.startswith("0: a label that is …  1: ")
    assert len(strip(pictures, 1)[0].plain) == WIDEST + APART
    assert strip([], 80) == []


def test_pictures_are_for_terminals_with_colours() -> None:
    shows = {"force_terminal": True, "color_system": "truecolor"}
    assert not can_show(Console(file=io.StringIO()))
    assert not can_show(Console(file=io.StringIO(), force_terminal=True, color_system=None))
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as stream:
        assert can_show(Console(file=stream, **shows))  # type: ignore[arg-type]
    with io.TextIOWrapper(io.BytesIO(), encoding="ascii") as stream:
        assert not can_show(Console(file=stream, **shows))  # type: ignore[arg-type]
