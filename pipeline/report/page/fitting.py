"""A page that is small enough to open at once: fewer inputs first, then fewer of those that an example explains."""

import json
from collections.abc import Callable
from typing import Any

from relatif.pipeline.report.page.page import Chosen, chosen_from_tables, page_data
from relatif.pipeline.report.page.sources import Source

LARGEST_BYTES = 20_000_000
DOCUMENT_BYTES = 500_000
"""Left for the script and the style of the page."""

MOST_TIMES = 2
"""How much too large a step may look before it is passed over: examples that several inputs share count once."""

STEPS = ((500, 28), (300, 28), (200, 14), (120, 14), (80, 7), (40, 7), (20, 4), (8, 2), (2, 1))
"""Inputs of a page, and how many inputs are shown of those that a training example explains; the first that fits."""


Deepen = Callable[[Chosen], Chosen]


def _as_it_is(chosen: Chosen) -> Chosen:
    """Add nothing to what the tables say."""
    return chosen


def fitted_page(source: Source, largest: int = LARGEST_BYTES, deepen: Deepen = _as_it_is) -> dict[str, Any]:
    """Return the page's JSON object with as many inputs as ``largest`` bytes hold, at least a few.

    ``deepen`` adds to the inputs of a page what the tables don't hold.
    """
    data: dict[str, Any] = {}
    bytes_of_one = 0.0
    for inputs, reverse in STEPS:
        last = (inputs, reverse) == STEPS[-1]
        # What is far too large as the step before tells is not read: each step reads what it shows.
        if not last and bytes_of_one * inputs > MOST_TIMES * largest:
            continue
        data = page_data(source, deepen(chosen_from_tables(source, inputs, reverse)))
        size = size_of(data) + DOCUMENT_BYTES
        if size <= largest:
            break
        bytes_of_one = size / len(data["explanations"])
    return data


def size_of(data: dict[str, Any]) -> int:
    """Return how many bytes a page's JSON object has."""
    return len(json.dumps(data, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode("utf-8"))
