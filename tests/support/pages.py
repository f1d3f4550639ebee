"""Made-up data for the report page, as `pipeline/report/page` writes it: pictures, texts, rows, or indices alone."""

from dataclasses import replace
from typing import Any

import numpy as np

from tests.support.page_parts import (
    METHODS,
    SCORED,
    Made,
    explanation,
    hill,
    labels,
    rounded,
    served,
    sheets,
    some,
    story,
    whole,
)

WORDS = (
    "match ended striker scored twice market shares fell after bank report said phone chip runs faster minister met "
    "leaders capital storm hit coast rain wind team won final game price oil rose the a in"
)
SYLLABLES = ("ka", "ro", "shi", "mo", "van", "der", "mac", "ov", "ski", "son", "el", "ha", "dad", "ri", "ta", "nen")
HOSTILE = "</script><img src=x onerror=\"document.title='broken'\"><!-- & \u2028 \"'` =1+1"


DIGITS = Made()
PHOTOS = Made(
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    channels=3,
    side=32,
    n=50000,
)
NAMES = Made(media="text", classes=("Arabic", "Chinese", "Dutch", "English", "Greek", "Japanese", "Scottish"), n=18000)
PRICES = Made(media="row", kind="numbers", classes=None, n=20640, m=4000, labels=0)
INCOMES = Made(media="row", classes=("<=50K", ">50K"), n=32561)
PLAIN = Made(media="none", classes=tuple(f"class {number}" for number in range(300)), n=5000, m=900)
ATTACK = Made(media="text", classes=(HOSTILE, "b"), hostile=True, n=900, m=60, explained=12)
MILLION = replace(DIGITS, n=1_000_000, m=50_000, train=9000, explained=500, labels=150)
KINDS = {"digits": DIGITS, "photos": PHOTOS, "names": NAMES, "prices": PRICES, "incomes": INCOMES, "plain": PLAIN}


def made_page(made: Made = DIGITS) -> dict[str, Any]:
    """Return a whole page's data, the same for the same description."""
    draw = np.random.default_rng(made.seed)
    tests = made.explained + 30
    train = _train(made, draw)
    test = _examples(made, draw, tests, made.m)
    explained = test["predicted"] if made.kind == "classes" else test["label"]
    test |= {"explained": list(explained)}
    _errors_first(made, test)
    return {
        "version": 1,
        "run": _run(made),
        "sheets": sheets(made, draw, made.train + tests),
        "columns": [*(f"feature {number}" for number in range(1, 11)), "job", "town"] if made.media == "row" else None,
        "train": train,
        "test": test,
        "explanations": [explanation(made, draw, train["fan"]) for _ in range(made.explained)],
        "reverse": {m: {str(p): some(draw, tests, 9) for p in range(0, made.train, 3)} for m in SCORED},
        "served": served(made, train),
        "self_histogram": {"low": -6, "high": 5, "counts": hill(draw, made.n)},
        "story": story(made, draw) if made.media != "none" else None,
        "labels": labels(made, draw, train),
        "whole": whole(made, draw),
    }


def one_input(made: Made = DIGITS) -> dict[str, Any]:
    """Return the data of a page of one input that is not of the data set."""
    page = made_page(replace(made, explained=1))
    page["test"]["index"][0] = None
    page["test"]["id"] = ["drawn.png", *[None] * 30]
    for name in SCORED:
        helps = page["explanations"][0]["methods"][name]["helps"]
        halves = [[0.75 * score, 0.5 * score, -0.25 * score] for score in helps["score"]]
        helps["by_layer"] = {"names": ["conv1", "conv2", "head"], "shares": halves}
    return page | {"story": None, "labels": None, "whole": {}, "reverse": {}}


def _run(made: Made) -> dict[str, Any]:
    noun = {"image": "image", "text": "text", "row": "row", "none": "example"}[made.media]
    fields = ("name", "title", "color", "about", "typical")
    classes = made.kind == "classes"
    return {
        "title": "made_up",
        "kind": made.kind,
        "media": made.media,
        "classes": made.classes and list(made.classes),
        "noun": {"train": [f"training {noun}", f"training {noun}s"], "test": [f"test {noun}", f"test {noun}s"]},
        "n": made.n,
        "m": made.m,
        "k": 20,
        "wrong": 739 if classes else None,
        "accuracy": 0.92 if classes else None,
        "unit": "nats",
        "methods": [dict(zip(fields, values, strict=True)) for values in METHODS],
        "facts": [
            {"title": "What was explained", "text": "The predictions of a made-up model on made-up inputs."},
            {"title": "What a score means", "text": "+ helps: this loss would rise without the example."},
            {"title": "How it was computed", "text": "K-FAC, damping 0.001, all of 7,850 parameters."},
        ],
        "checks": [
            {"state": "good", "text": "263 examples left out, model retrained: r = 0.98"},
            {"state": "warning", "text": "Coverage 91%"},
            {"state": "none", "text": "Another damping: not run"},
        ],
        "digests": [{"what": "data", "digest": "32ef" * 16}, {"what": "checkpoint", "digest": "ba12" * 16}],
        "explain": "relatif explain --run runs/made_up --test-index {index}",
        "sample": f"{made.explained} of {made.m:,} inputs are on this page, errors first",
    }


def _examples(made: Made, draw: np.random.Generator, many: int, below: int) -> dict[str, Any]:
    count = len(made.classes or ()) or 1
    classes = made.kind == "classes"
    label = draw.integers(count, size=many) if classes else draw.normal(2, 1, many)
    predicted = np.where(draw.random(many) < 0.4, draw.integers(count, size=many), label)
    if not classes:
        predicted = label + draw.normal(0, 0.4, many)
    return {
        "index": sorted(some(draw, below, many)),
        "id": [f"row-{number:04}" for number in range(many)] if made.media in ("row", "none") else None,
        "label": [int(v) for v in label] if classes else rounded(label),
        "predicted": [int(v) for v in predicted] if classes else rounded(predicted),
        "probability": rounded(draw.beta(5, 1, many)) if classes else None,
        "loss": rounded(draw.exponential(0.2, many)),
        "text": [_text(made, draw) for _ in range(many)] if made.media == "text" else None,
        "row": [_row(draw) for _ in range(many)] if made.media == "row" else None,
    }


def _text(made: Made, draw: np.random.Generator) -> str:
    if made.hostile:
        return f"{HOSTILE} {draw.integers(9)}"
    if made.classes == NAMES.classes and draw.random() < 0.5:
        return "".join(draw.choice(SYLLABLES, 3)).capitalize()
    return " ".join(draw.choice(WORDS.split(), draw.integers(8, 60)))


def _row(draw: np.random.Generator) -> list[Any]:
    numbers = rounded(draw.normal(0, [1, 10, 100, 1, 1, 5, 5, 0.01, 1e5, 1]))
    return [*numbers, str(draw.choice(["nurse", "teacher", "clerk"])), str(draw.choice(["Bonn", "Graz"]))]


def _errors_first(made: Made, test: dict[str, Any]) -> None:
    """Order the explained inputs as a run does: errors first, among them the surest first."""
    if made.kind != "classes":
        return
    chance = [
        p if e == q else 0 for p, e, q in zip(test["probability"], test["explained"], test["predicted"], strict=True)
    ]
    order = sorted(range(made.explained), key=lambda i: (test["label"][i] == test["predicted"][i], -chance[i], i))
    for column in test.values():
        if column is not None:
            column[: made.explained] = [column[place] for place in order]


def _train(made: Made, draw: np.random.Generator) -> dict[str, Any]:
    train = _examples(made, draw, made.train, made.n)
    fan = {
        name: [int(v) for v in draw.geometric(0.03 if name == "influence" else 0.4, made.train)] for name, *_ in METHODS
    }
    fan["influence"][0] = made.m // 40 + 90
    self_influence = 10 ** draw.uniform(-5, 4, made.train)
    place = 1 + (made.n - 1) * (1 - (np.log10(self_influence) + 5) / 9)
    return train | {
        "self_influence": rounded(self_influence),
        "self_place": [int(v) for v in place],
        "fan": fan,
    }
