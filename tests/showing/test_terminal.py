"""Explanations as lines of text: what a pipe gets, and what a terminal shows besides."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from relatif.pipeline.showing.shown import Shown
from relatif.pipeline.showing.terminal import PIPED_WIDTH, console_of, print_explanation, text_of
from tests.support.shown import MEANING, TRICKY, of_pictures, of_rows, of_texts


def printed(shown: Shown, width: int | None = None) -> list[str]:
    stream = io.StringIO()
    print_explanation(shown, console_of(stream) if width is None else Console(file=stream, width=width))
    return stream.getvalue().splitlines()


def test_a_pipe_gets_tables_without_pictures_or_colours() -> None:
    lines = printed(of_pictures())
    text = "\n".join(lines)
    assert lines[:3] == ["the file 1.png", "explained cat · probability 90%", "note: it was resized"]
    assert "▀" not in text
    assert "\x1b" not in text
    assert max(map(len, lines)) <= PIPED_WIDTH
    header = next(line for line in lines if "rank" in line)
    assert header.split() == ["rank", "example", "label", "probability", "score", "effect", "corrected"]
    first = lines[lines.index(header) + 2]
    assert first.split() == ["1", "100", "(id-1)", "cat", "→", "lynx", "90%", "0.500", "+87", "µnat", "+90", "µnat"]
    assert [line for line in lines if line in ("IF", "IF: the examples that harm", "l-RelatIF")] == [
        "IF", "IF: the examples that harm", "l-RelatIF"
    ]  # fmt: skip
    assert lines[-1] == MEANING
    assert text_of(of_pictures()).split("\n") == lines


def test_a_terminal_shows_pictures_side_by_side() -> None:
    with io.TextIOWrapper(io.BytesIO(), encoding="utf-8") as stream:
        console = Console(file=stream, force_terminal=True, color_system="truecolor", width=100)
        print_explanation(of_pictures(), console)
        stream.flush()
        text = stream.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "▀" in text
    assert "1: cat → lynx" in text
    assert "38;2;" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_texts_are_cut_to_the_width_and_nothing_is_markup(width: int) -> None:
    lines = printed(of_texts(), width)
    assert TRICKY.split(" &")[0] in "\n".join(lines)
    table = lines[next(place for place, line in enumerate(lines) if "rank" in line) :]
    assert max(map(len, table)) <= max(width, 114)
    row = next(line for line in table if line.lstrip().startswith("1 "))
    assert "…" in row
    assert len(printed(of_texts(), width)) == len(lines)


@pytest.mark.parametrize("width", [80, 100, 120, 240])
def test_parts_stand_below_their_row_strongest_first_and_are_never_cut(width: int) -> None:
    lines = printed(of_texts(), width)
    row = next(place for place, line in enumerate(lines) if line.lstrip().startswith("1 "))
    below = lines[row + 1 : lines.index("", row)]
    assert " ".join(map(str.strip, below)) == f"by token: bad +0.3, film -0.1, {TRICKY} +0.02, not by token +0.03"
    assert all(line.startswith(" " * 7) and len(line) <= width for line in below)


def test_names_with_line_breaks_have_one_line() -> None:
    shown = of_texts()
    (method,) = shown.methods
    helps = [replace(each, label="a\nb\r\n", identity="c\u2028d") for each in method.helps]
    (row,) = (line for line in printed(replace(shown, methods=[replace(method, helps=helps)])) if "5 (c d)" in line)
    assert "a b" in row


def test_parts_by_layer_are_named() -> None:
    text = "\n".join(printed(of_rows(), 240))
    assert "by layer: layers.0 +0.1, layers.1 +0.08" in text
    assert "others" not in text
    assert "column 0" in text
    assert "3.2, predicted 3.1" in text


def test_one_layer_does_not_repeat_the_score() -> None:
    shown = of_rows()
    (method,) = shown.methods
    one = [replace(each, parts=each.parts[:1]) for each in method.helps]
    assert "by layer" not in "\n".join(printed(replace(shown, methods=[replace(method, helps=one)]), 240))
