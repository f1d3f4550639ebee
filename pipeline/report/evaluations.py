"""Evaluations of explanations as plain text, at most 100 columns wide."""

import pyarrow as pa

from relatif.pipeline.report.tables import aligned
from relatif.schemas.methods import METHODS

TESTS = {
    "identical_class": "of the class that is explained",
    "identical_subclass": "of the same class before merging, where the model is right",
}
"""What the first example of an explanation has to be, by test."""


def class_agreement_text(table: pa.Table) -> str:
    """Return for each test and method the share of test inputs whose first example is of their class."""
    rows = table.to_pylist()
    blocks = []
    for test, meaning in TESTS.items():
        chosen = [row for row in rows if row["test"] == test]
        if chosen:
            lines = [["method", "share", "standard error"]]
            lines += [
                [METHODS[row["method"]].title, f"{row['share']:.2%}", f"{row['standard_error']:.2%}"] for row in chosen
            ]
            title = f"{test}, {chosen[0]['test_count']:,} test inputs:\nshare whose first example is {meaning}"
            blocks.append(f"{title}\n\n{aligned(lines, '<>>')}")
    return "\n\n".join(blocks)


def mislabel_detection_text(table: pa.Table) -> str:
    """Return the share of the flipped labels that each ranking finds, and which ranking has the largest area."""
    rows = table.to_pylist()
    shares = list(dict.fromkeys(row["inspected_share"] for row in rows))
    found = {(row["ranking"], row["inspected_share"]): row["found_share"] for row in rows}
    areas = {row["ranking"]: row["area"] for row in rows}
    lines = [["ranking", *(f"in first {share:.0%}" for share in shares), "area"]]
    lines += [[name, *(f"{found[name, share]:.1%}" for share in shares), f"{area:.4f}"] for name, area in areas.items()]
    best = max(areas.values())
    winners = [name for name, area in areas.items() if area == best]
    told = [
        f"in the first {row['inspected_share']:.0%} the {row['ranking']} suggests the right label of "
        f"{row['right_share']:.1%} of those found"
        for row in rows
        if row.get("right_share") is not None
    ]
    return (
        "mislabel_detection: share of the flipped labels found, training examples inspected highest first\n\n"
        f"{aligned(lines, '<' + '>' * (len(shares) + 1))}\n\n"
        + "".join(f"{line}\n" for line in told)
        + f"best by area: {', '.join(winners)} ({best:.4f}; 0.5 is chance)"
    )
