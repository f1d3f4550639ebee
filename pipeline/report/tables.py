"""A run's statistics as plain text beside the paper's figures, at most 100 columns wide."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from relatif.pipeline.report.paper import (
    OVERLAP_WITH_NEAREST,
    TABLE_1,
    TEST_ACCURACY,
    TEST_COUNT,
    OverlapRange,
    SetFigures,
)
from relatif.schemas.methods import METHODS, PAPER_METHODS, explaining

NEAREST = "nearest_neighbour"
SETS_PER_BLOCK = 2
OVERLAPS_PER_BLOCK = 6
"""So many k fit beside each other into 100 columns."""

_NONE = "-"


def table1_text(influence_sets: pa.Table, *, test_accuracy: float | None, paper: str | None) -> str:
    """Return Table 1: ours, and below each row the paper's, for the experiment ``paper`` (None: there is none).

    ``test_accuracy`` is a share, 0 to 1. A figure that is missing is a dash; where the paper has no figures of the
    experiment, ours stand alone.
    """
    rows = influence_sets.to_pylist()
    ours = {(row["method"], row["k"]): _figures(row) for row in rows}
    ks = sorted({k for _, k in ours})
    test_count = max((row["test_count"] for row in rows), default=0)
    parts = [
        f"Table 1: distinct training examples in the top-k of {test_count:,} test inputs\n"
        f"(prob.: the model's probability of their own label, mean ± std)"
    ]
    parts += [_table1_block(ours, some, paper) for some in _pieces(ks, SETS_PER_BLOCK)]
    parts += _accuracy(test_accuracy, paper)
    if paper in TABLE_1 and test_count != TEST_COUNT:
        parts.append(f"The paper's sets are over {TEST_COUNT:,} test inputs, so the cardinalities do not compare.")
    return "\n\n".join(parts)


def overlap_text(overlap: pa.Table, *, paper: str | None) -> str:
    """Return the overlap of every method with the nearest neighbours, beside the paper's range for ``paper``."""
    shares = dict(_overlaps_with_nearest(overlap.to_pylist()))
    ks = sorted({k for _, k in shares})
    parts = ["Section 4.3: share of the top-k in common with the k nearest neighbours"]
    parts += [_overlap_block(shares, some, paper) for some in _pieces(ks, OVERLAPS_PER_BLOCK)]
    return "\n\n".join(parts)


def aligned(rows: Sequence[Sequence[str]], alignment: str) -> str:
    """Return rows as lines, with one of ``<`` and ``>`` for each column; columns without any text are left out."""
    columns = [(column, mark) for column, mark in zip(zip(*rows, strict=True), alignment, strict=True) if any(column)]
    padded = [[f"{cell:{mark}{max(map(len, column))}}" for cell in column] for column, mark in columns]
    return "\n".join("  ".join(cells).rstrip() for cells in zip(*padded, strict=True))


def _table1_block(ours: Mapping[tuple[str, int], SetFigures], ks: Sequence[int], paper: str | None) -> str:
    theirs = TABLE_1.get(paper or "")
    sources = [("", ours)] if theirs is None else [("ours", ours), ("paper", theirs)]
    rows = [["method", "", *(f"card. top-{k}" for k in ks), *(f"prob. top-{k}" for k in ks)]]
    for method in explaining([*(name for name, _ in ours), *PAPER_METHODS]):
        names = [METHODS[method].title, ""]
        rows += [
            [name, source, *_cells(figures, method, ks)]
            for name, (source, figures) in zip(names, sources, strict=False)
            if figures is ours or method in PAPER_METHODS
        ]
    return aligned(rows, "<<" + ">" * (2 * len(ks)))


def _overlap_block(shares: Mapping[tuple[str, int], float], ks: Sequence[int], paper: str | None) -> str:
    ranges = OVERLAP_WITH_NEAREST.get(paper or "", {})
    rows = [["method", *(f"top-{k}" for k in ks), "paper, k from 1 to 20" if ranges else ""]]
    rows += [
        [
            METHODS[method].title,
            *(_percent(shares.get((method, k)), digits=1) for k in ks),
            _range(ranges[method]) if method in ranges else "",
        ]
        for method in explaining([*(name for name, _ in shares), *PAPER_METHODS])
        if method != NEAREST
    ]
    return aligned(rows, "<" + ">" * len(ks) + "<")


def _cells(figures: Mapping[tuple[str, int], SetFigures], method: str, ks: Sequence[int]) -> list[str]:
    found = [figures.get((method, k)) for k in ks]
    sizes = [_NONE if cell is None else f"{cell.cardinality:,}" for cell in found]
    return sizes + [
        _NONE
        if cell is None or cell.probability_mean is None
        else f"{cell.probability_mean:.3f} ± {cell.probability_std:.2f}"
        for cell in found
    ]


def _figures(row: Mapping[str, Any]) -> SetFigures:
    return SetFigures(row["cardinality"], row["probability_mean"], row["probability_std"])


def _accuracy(test_accuracy: float | None, paper: str | None) -> list[str]:
    if test_accuracy is None:
        return []
    beside = "" if paper is None else f" (paper {_percent(TEST_ACCURACY[paper], digits=2)})"
    return [f"test accuracy {_percent(test_accuracy, digits=2)}{beside}"]


def _overlaps_with_nearest(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[tuple[str, int], float]]:
    for row in rows:
        pair = {row["method_a"], row["method_b"]}
        if NEAREST in pair:
            (other,) = pair - {NEAREST}
            yield (other, row["k"]), row["overlap"]


def _percent(share: float | None, *, digits: int) -> str:
    return _NONE if share is None else f"{100 * share:.{digits}f}%"


def _range(values: OverlapRange) -> str:
    trend = f", {values.trend}" if values.trend else ""
    return f"{100 * values.low:g}-{100 * values.high:g}%{trend}"


def _pieces(values: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(values), size):
        yield values[start : start + size]
