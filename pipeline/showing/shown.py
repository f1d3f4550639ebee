"""What is shown of an explanation: the input, and by each method the examples that help and harm, as plain values."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Part = tuple[str, float]
"""A layer, a token or what is neither, and its part of a score."""

NOT_BY_TOKEN = "not by token"

PREFIXES = {0: "", -3: "m", -6: "µ", -9: "n", -12: "p"}
SMALLEST = -12

ONE_DIGIT = (9.95, 0.995, 0.0)
"""From where on a value shows two digits, one behind the point or none; below with two behind it."""

SHARP = 64
"""Most pixels of a picture's side that are drawn as squares."""


@dataclass(frozen=True, eq=False)
class Media:
    """What an example looks like: a picture uint8 [rows, columns] or [rows, columns, 3], a text, a row; or nothing."""

    picture: NDArray[np.uint8] | None = None
    text: str | None = None
    row: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, eq=False)
class ShownExample:
    """A training example: ``predicted`` is the model's answer where it differs from the label.

    ``effect`` is influence / n, ``corrected`` the same with the example's own curvature and the loss itself. ``parts``
    by layer, or by token in the text's order, add up to the score with ``rest``, what belongs to no token.
    """

    rank: int
    index: int
    score: float
    identity: str | None = None
    label: str | None = None
    predicted: str | None = None
    probability: float | None = None
    effect: float | None = None
    corrected: float | None = None
    media: Media = field(default_factory=Media)
    parts: Sequence[Part] = ()
    rest: float | None = None

    @property
    def name(self) -> str:
        """The example's row, and its identifier where it has one."""
        return str(self.index) if self.identity is None else f"{self.index} ({self.identity})"

    @property
    def all_parts(self) -> list[Part]:
        """The parts with what belongs to no token."""
        return [*self.parts, *([] if self.rest is None else [(NOT_BY_TOKEN, self.rest)])]


@dataclass(frozen=True, eq=False)
class ShownMethod:
    """What a method, by the title that people read, names as helping, best first, and as harming, worst first."""

    name: str
    title: str
    helps: Sequence[ShownExample]
    harms: Sequence[ShownExample] = ()


@dataclass(frozen=True, eq=False)
class Shown:
    """One explained input: what it is, facts of it as pairs, notes of what was done to it, and the methods.

    ``meaning`` says in a sentence what an effect is, ``unit`` is the short name of its unit. ``by`` is ``layer`` or
    ``token`` where scores are split.
    """

    told: str
    media: Media
    facts: Sequence[tuple[str, str]]
    methods: Sequence[ShownMethod]
    meaning: str
    unit: str = "nat"
    notes: Sequence[str] = ()
    by: str | None = None


def amount(value: float | None, unit: str) -> str:
    """Return a signed number with two digits and the unit's prefix; an empty text for none.

    >>> amount(8.71e-5, "nat"), amount(-0.0123, "nat"), amount(3.0, ""), amount(0.0, "nat"), amount(2e-16, "nat")
    ('+87 µnat', '-12 mnat', '+3', '0 nat', '+0.0002 pnat')
    """
    if value is None or not math.isfinite(value):
        return ""
    if value == 0:
        return f"0 {unit}".strip()
    power = _power(value) if unit else 0
    shown = float(f"{value / 10.0**power:.2g}")
    return f"{'-' if shown < 0 else '+'}{abs(shown):.9g} {PREFIXES[power]}{unit}".strip()


def amounts(values: Sequence[float | None], unit: str) -> list[str]:
    """Return what ``amount`` does of a column: in one unit, that of the largest, with equal digits behind the point.

    A value that would be shown as 0 has a unit of its own.

    >>> amounts([8.71e-5, 3.4e-6, None, -1e-5], "nat"), amounts([3e-3, 1e-9], "nat")
    (['+87.1 µnat', '+3.4 µnat', '', '-10.0 µnat'], ['+3.00 mnat', '+1 nnat'])
    """
    known = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
    if not known or not unit:
        return [amount(value, unit) for value in values]
    power = _power(max(known))
    smallest = min(size / 10.0**power for size in known)
    digits = next((digits for digits, least in enumerate(ONE_DIGIT) if smallest >= least), len(ONE_DIGIT) - 1)

    def told(value: float | None) -> str:
        shown = "" if value is None or not math.isfinite(value) else f"{value / 10.0**power:+z.{digits}f}"
        return f"{shown} {PREFIXES[power]}{unit}" if shown and float(shown) else amount(value, unit)

    return [told(value) for value in values]


def _power(value: float) -> int:
    """Return the power of ten of a value's prefix."""
    return min(0, max(3 * math.floor(math.log10(abs(float(f"{value:.1e}"))) / 3), SMALLEST))


def number(value: float | None) -> str:
    """Return a number with three digits, an empty text for none.

    >>> number(0.98765), number(-12345.6), number(None)
    ('0.988', '-12,300', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    shown = float(f"{value:.3g}")
    large = abs(shown) >= 1000 and abs(shown) < 1e15
    return f"{shown:,.0f}" if large else f"{shown:.3g}"


def numbers(values: Sequence[float | None]) -> list[str]:
    """Return what ``number`` does of a column, with equal digits behind the point: three digits of the largest.

    >>> numbers([28.25, 20.0, None, 1.0]), numbers([0.347, 1e-5]), numbers([12345.6, 1.5])
    (['28.2', '20.0', '', '1.0'], ['0.347', '1e-05'], ['12,300', '1.5'])
    """
    known = [abs(value) for value in values if value is not None and math.isfinite(value) and value != 0]
    largest_one = max(known, default=0.0)
    if not 1e-4 <= largest_one < 1000:
        return [number(value) for value in values]
    digits = max(0, 2 - math.floor(math.log10(float(f"{largest_one:.2e}"))))

    def told(value: float | None) -> str:
        shown = "" if value is None or not math.isfinite(value) else f"{value:z.{digits}f}"
        return shown if shown and (float(shown) or value == 0) else number(value)

    return [told(value) for value in values]


def probability(value: float | None) -> str:
    """Return a probability in percent, an empty text for none.

    >>> probability(0.98765), probability(0.0004), probability(0.99996)
    ('99%', '< 1%', '> 99%')
    """
    if value is None or not math.isfinite(value):
        return ""
    if value < 0.005:
        return "< 1%"
    return "> 99%" if value > 0.995 else f"{value:.0%}"


def label_text(example: ShownExample) -> str:
    """Return the label, and the model's answer where it differs."""
    label = example.label or ""
    return label if example.predicted is None else f"{label} → {example.predicted}"


def fits_sharply(picture: NDArray[np.uint8]) -> bool:
    """Return whether a picture is so small that its pixels are drawn as squares."""
    return max(picture.shape[:2]) <= SHARP


def largest(parts: Sequence[Part], count: int) -> list[Part]:
    """Return the parts of the largest size, in falling order, the rest as one where more are left."""
    ordered = sorted(parts, key=lambda part: -abs(part[1]))
    if len(ordered) <= count:
        return ordered
    return [*ordered[: count - 1], ("others", math.fsum(part for _, part in ordered[count - 1 :]))]


def row_text(row: Sequence[tuple[str, str]]) -> str:
    """Return a row in one line."""
    return ", ".join(f"{name} {value}" for name, value in row)


def cell(value: Any) -> str:
    """Return a cell's value as people read it: numbers with five digits, a list by its first numbers."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple):
        return " ".join(map(cell, value[:12])) + (" ..." if len(value) > 12 else "")
    return str(value)
