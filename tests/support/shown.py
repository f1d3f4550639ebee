"""Explanations made by hand, of a picture, a text and a row, with what HTML and terminals could take for their own."""

import numpy as np

from relatif.pipeline.showing.shown import Media, Shown, ShownExample, ShownMethod

TRICKY = '<script>alert("1")</script> & [bold]x[/bold] $y$'
MEANING = "effect: leaving the example out would raise the loss by about so much"


def picture(seed: int) -> np.ndarray:
    """Return noise."""
    return np.random.default_rng(seed).integers(0, 256, (9, 7), dtype=np.uint8)


def of_pictures(count: int = 3) -> Shown:
    """Return pictures by two methods, with harms by the first."""
    helps = [
        ShownExample(rank, 100 * rank, 0.5 / rank, f"id-{rank}", "cat", "lynx" if rank == 1 else None, 0.9 / rank,
                     8.7e-5 / rank, 9e-5, Media(picture(rank)))
        for rank in range(1, count + 1)
    ]  # fmt: skip
    harms = [ShownExample(1, 7, -0.4, None, "dog", None, 0.2, -3e-6, None, Media(picture(9)))]
    methods = [ShownMethod("influence", "IF", helps, harms), ShownMethod("l_relatif", "l-RelatIF", helps[::-1])]
    facts = (("explained", "cat"), ("probability", "90%"), ("label", ""))
    return Shown("the file 1.png", Media(picture(0)), facts, methods, MEANING, notes=("it was resized",))


def of_texts() -> Shown:
    """Return texts with marked tokens."""
    parts = [("bad ", 0.3), ("film", -0.1), (TRICKY, 0.02)]
    helps = [
        ShownExample(1, 5, 0.25, None, TRICKY, None, 0.5, 1e-6, None, Media(text=f"bad film{TRICKY}"), parts, 0.03)
    ]
    methods = [ShownMethod("influence", "IF", helps)]
    return Shown(f"the text {TRICKY}", Media(text=TRICKY * 30), (("explained", TRICKY),), methods, MEANING, by="token")


def of_rows() -> Shown:
    """Return rows of a regression, split by layer."""
    row = tuple((f"column {place} {TRICKY}", str(place / 7)[:5]) for place in range(11))
    layers = [(f"layers.{place}", 0.1 - place / 50) for place in range(8)]
    helps = [ShownExample(1, 5, 0.24, None, "3.2, predicted 3.1", None, None, 0.02, None, Media(row=row), layers)]
    facts = (("prediction", "3.15"),)
    methods = [ShownMethod("influence", "IF", helps)]
    return Shown("the given row", Media(row=row[:2]), facts, methods, MEANING, unit="", by="layer")
