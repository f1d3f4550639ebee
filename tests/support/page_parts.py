"""Parts of made-up pages: lists of an input, the story, the label queue, panels of the whole, sheets of pictures."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

METHODS = (
    ("influence", "IF", "if", "Largest effect on this loss", 38),
    ("theta_relatif", "θ-RelatIF", "theta", "... per change of the parameters", 2),
    ("l_relatif", "\u2113-RelatIF", "ell", "... per change of all predictions", 2),
    ("nearest_neighbour", "nearest", "nearest", None, 2),
)
SCORED = tuple(name for name, *_ in METHODS[:3])
TILES_PER_SHEET = 2048


@dataclass(frozen=True)
class Made:
    """What kind of page: its media, kind, sizes; everything else is drawn by the seed."""

    media: str = "image"
    kind: str = "classes"
    classes: tuple[str, ...] | None = tuple("0123456789")
    channels: int = 1
    side: int = 28
    n: int = 60000
    m: int = 10000
    train: int = 160
    explained: int = 20
    ranks: int = 20
    labels: int = 10
    hostile: bool = False
    seed: int = 0


def some(draw: np.random.Generator, below: int, many: int) -> list[int]:
    return [int(value) for value in draw.choice(below, min(many, below), replace=False)]


def rounded(values: Sequence[float] | np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


def hill(draw: np.random.Generator, total: int) -> list[int]:
    shape = np.exp(-(((np.arange(64) - 32) / 9) ** 2)) * draw.uniform(0.7, 1.3, 64)
    return [int(value) for value in total * shape / shape.sum()]


def side(made: Made, draw: np.random.Generator, scale: float, first: int | None) -> dict[str, Any]:
    positions = some(draw, made.train, made.ranks)
    if first is not None:
        positions = [first, *(position for position in positions if position != first)][: made.ranks]
    score = scale * np.sort(draw.exponential(1, made.ranks))[::-1] + 0.2 * scale
    effect = score / made.n * draw.uniform(0.5, 20, made.ranks)
    return {
        "train": positions,
        "score": rounded(score),
        "effect": rounded(effect),
        "corrected": [None if draw.random() < 0.2 else value for value in rounded(effect * 1.3)],
        "place": [int(v) for v in draw.integers(1, made.n, made.ranks)],
    }


def explanation(made: Made, draw: np.random.Generator, fan: dict[str, Any]) -> dict[str, Any]:
    methods: dict[str, Any] = {}
    for name, scale in zip(SCORED, (5.0, 0.5, 0.05), strict=True):
        helps = side(made, draw, scale, 0 if name == "influence" else None)
        harms = side(made, draw, scale * 0.8, None)
        harms |= {key: [v and -v for v in harms[key]] for key in ("score", "effect", "corrected")}
        helping = int(made.n * 0.53)
        sides = {"low": harms["score"][0], "high": helps["score"][0], "counts": hill(draw, made.n)}
        methods[name] = {
            "helps": helps,
            "harms": harms,
            "histogram": sides | {"helping": helping, "harming": made.n - helping},
        }
    near = side(made, draw, 1.0, None)
    near |= {"score": sorted(near["score"]), "corrected": None, "place": list(range(1, made.ranks + 1))}
    return {"methods": methods | {"nearest_neighbour": {"helps": near, "harms": None, "histogram": None}}}


def story(made: Made, draw: np.random.Generator) -> dict[str, Any]:
    shown = ["influence", "l_relatif"]
    few = some(draw, made.train, 7)
    rows = {"influence": [[int(p) for p in draw.permutation(few)[:5]] for _ in range(6)]}
    rows["l_relatif"] = [some(draw, made.train, 5) for _ in range(6)]
    values = {"influence": 58, "theta_relatif": 645, "l_relatif": 755, "nearest_neighbour": 703}
    return {
        "inputs": list(range(6)),
        "methods": shown,
        "rows": rows,
        "headline": "distinct",
        "different": {name: len({p for row in rows[name] for p in row}) for name in shown},
        "bars": [
            {
                "title": "Examples it takes to reach half of all inputs",
                "values": values,
                "text": {name: str(value) for name, value in values.items()},
            },
            {
                "title": "Explaining examples that the model gets wrong",
                "values": {"influence": 0.89, "l_relatif": 0.025},
                "text": {"influence": "89%", "l_relatif": "2.5%"},
            },
        ],
        "most": {"train": 0, "method": "influence", "text": "The most frequent: IF names it for 340 inputs."},
    }


def labels(made: Made, draw: np.random.Generator, train: dict[str, Any]) -> dict[str, Any] | None:
    if not made.labels:
        return None
    count = len(made.classes or ())
    rows = []
    for place, position in enumerate(some(draw, made.train, made.labels)):
        suggested = (train["label"][position] + 1 + place) % count
        rows.append(
            {
                "train": position,
                "suspicion": round(99.8 - place * 0.4, 1),
                "suggested": suggested,
                "evidence": [
                    {"what": "Model", "share": 0.99, "text": "label gets < 1%"},
                    {"what": "Neighbours", "share": 0.8, "text": "8 of 10"},
                    {"what": "Self-influence", "share": 0.97, "text": f"no. {place + 2}"},
                ],
                "helpers_label": some(draw, made.train, 5),
                "helpers_suggested": some(draw, made.train, 5),
                "nearest": some(draw, made.train, 10),
                "touches": {"influence": 6, "l_relatif": 0},
            }
        )
    return {
        "how": "The mean of three places: the model's doubt, the neighbours, self-influence.",
        "rows": rows,
        "total": made.n,
    }


def whole(made: Made, draw: np.random.Generator) -> dict[str, Any]:
    names = [name for name, *_ in METHODS]
    speeds = {"influence": 58, "theta_relatif": 645, "l_relatif": 755, "nearest_neighbour": 703}
    grid = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000]
    curves = {name: [[g, round(1 - 0.5 ** (g / half), 4)] for g in grid] for name, half in speeds.items()}
    loss = draw.normal(0, 1, 80) * 10.0 ** draw.uniform(-6, -3, 80)
    overlaps = [(a, b, 20) for place, a in enumerate(names) for b in names[place + 1 :]]
    field = png(np.full((40, 60), 200, np.uint8))
    return {
        "reach": {"curves": curves, "half": speeds, "fifth": {name: many // 4 for name, many in speeds.items()}},
        "dominating": {name: some(draw, made.train, 36) for name in ("influence", "l_relatif")},
        "dominating_wrong": {"influence": 58, "l_relatif": 0} if made.kind == "classes" else None,
        "table1": [_table1(made, name, k, speeds[name] * 10 * k) for k in (1, 5) for name in names],
        "overlap": [{"a": a, "b": b, "k": k, "overlap": round(float(draw.random()), 3)} for a, b, k in overlaps],
        **_by_class(made, draw),
        "geometry": {"clouds": [_cloud(made, draw, test) for test in range(min(3, made.explained))]},
        "both_labels": _both_labels(made, draw),
        "leave_one_out": {
            "points": [[float(v), None if v < -2e-4 else float(v * 1.3), float(v * 1.31)] for v in loss],
            "text": "80 examples left out one by one: r = 0.99.",
        },
        "figures": [
            {"title": "Figure 6", "text": "Made up.", "png": field, "alt": "a grey field"},
            *(_beside(made, draw, ranks) for ranks in (1, 5) if made.media == "image"),
        ],
    }


def _cloud(made: Made, draw: np.random.Generator, test: int) -> dict[str, Any]:
    """Return training examples by cosine and projection: by influence the longest are first, by angle the others."""

    def points(count: int, low: float, high: float, length: float) -> list[list[float]]:
        cosines = draw.uniform(low, high, count)
        lengths = length * draw.uniform(0.8, 1.2, count)
        return [[float(f"{c:.4g}"), float(f"{c * size:.4g}")] for c, size in zip(cosines, lengths, strict=True)]

    shape = {"influence": (0.2, 0.4, 90.0), "l_relatif": (0.85, 0.95, 1.0)}
    first = {name: {"train": some(draw, made.train, 5), "points": points(5, *shape[name])} for name in shape}
    return {"test": test, "points": points(50, -0.6, 0.6, 3.0), "first": first}


def _both_labels(made: Made, draw: np.random.Generator) -> dict[str, Any] | None:
    if made.kind != "classes":
        return None
    labels = [{"label": each, "probability": 0.5 - 0.06 * each, "train": some(draw, made.train, 5)} for each in (0, 1)]
    return {"test": made.explained, "method": "l_relatif", "sides": labels}


def _beside(made: Made, draw: np.random.Generator, ranks: int) -> dict[str, Any]:
    inputs = some(draw, made.explained, 4)
    lists = {name: [some(draw, made.train, ranks) for _ in inputs] for name in ("influence", "l_relatif")}
    return {"title": f"Figure of {ranks}", "text": "Made up.", "inputs": inputs, "lists": lists}


def served(made: Made, train: dict[str, Any]) -> dict[str, Any] | None:
    """Return a class of inputs for the first example of the page by influence, as it serves half of them."""
    if made.kind != "classes" or len(made.classes or ()) > 20:
        return None
    many = train["fan"]["influence"][0]
    inputs = [made.m // len(made.classes or ())] * len(made.classes or ())
    return {"inputs": inputs, "by": {"influence": {"0": [1, many // 2]}, "l_relatif": {}}}


def _table1(made: Made, method: str, k: int, cardinality: int) -> dict[str, Any]:
    mean, deviation = (0.4, 0.2) if made.kind == "classes" else (None, None)
    measured = {"method": method, "k": k, "cardinality": cardinality, "ratio": 0.2}
    paper = {"paper_cardinality": cardinality * 11 // 10, "paper_probability": 0.5}
    return measured | {"probability_mean": mean, "probability_std": deviation} | paper


def _by_class(made: Made, draw: np.random.Generator) -> dict[str, Any]:
    """Return matrices of few classes, or the pairs that are confused most of many."""
    count = len(made.classes or ())
    parts = dict.fromkeys(("confusion", "confused", "helpers", "influence_by_class"))
    if made.kind != "classes":
        return parts
    if count > 20:
        return parts | {"confused": [[a, a + 1, 40 - a] for a in range(20)]}
    table = draw.integers(0, 40, (count, count))
    return parts | {
        "confusion": table.tolist(),
        "helpers": {name: (table + 40 * np.eye(count, dtype=int)).tolist() for name in SCORED},
        "influence_by_class": {
            "classes": list(made.classes or ()),
            "values": draw.normal(0, 1e-3, table.shape).tolist(),
        },
    }


def sheets(made: Made, draw: np.random.Generator, tiles: int) -> dict[str, Any] | None:
    if made.media != "image":
        return None
    across = np.linspace(-1, 1, made.side)
    ring = np.hypot(*np.meshgrid(across, across))
    images = []
    for start in range(0, tiles, TILES_PER_SHEET):
        rows = 32 if tiles > TILES_PER_SHEET else -(-tiles // 64)
        sheet = np.zeros((32 * made.side, 64 * made.side, made.channels), np.uint8)
        for place in range(min(TILES_PER_SHEET, tiles - start, rows * 64)):
            y, x = divmod(place, 64)
            tile = (
                255
                * np.exp(-(((ring - draw.uniform(0.2, 0.7)) * 6) ** 2))[..., None]
                * draw.uniform(0.4, 1, made.channels)
            )
            tile = np.round(tile / 17) * 17  # sixteen greys
            sheet[y * made.side : (y + 1) * made.side, x * made.side : (x + 1) * made.side] = tile
        images.append(png(sheet[..., 0] if made.channels == 1 else sheet))
    return {"tile": [made.side, made.side], "columns": 64, "rows": 32, "gray": made.channels == 1, "images": images}


def png(pixels: np.ndarray) -> str:
    held = io.BytesIO()
    Image.fromarray(pixels).save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()
