"""The explanation of one test input as plain text: its best training examples by every method, beside the paper's."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from relatif.pipeline.report.paper import NamedExample
from relatif.pipeline.report.tables import aligned
from relatif.schemas.methods import METHODS

TEXT_WIDTH = 17
CLASS_WIDTH = 10
"""Longer texts and names of classes are cut, so that the paper's fit beside ours into 100 columns."""

_CUT = "…"


@dataclass(frozen=True)
class Explanation:
    """A test input, the explained class with the model's probability, and training examples by method, best first."""

    test: NamedExample
    explained_label: str
    probability: float
    examples: Mapping[str, Sequence[NamedExample]]


def explanation_text(explanation: Explanation, *, title: str, paper: Mapping[str, Sequence[NamedExample]]) -> str:
    """Return the training examples of an explanation with their classes and the model's, one a line.

    The paper's stand beside them, line by line; without any, ours stand alone. Methods come in the order of METHODS.
    """
    test = explanation.test
    rows = [row for method in METHODS for row in _rows(method, explanation.examples.get(method, ()), paper)]
    theirs = ["paper", "class", "classified"] if any(paper.get(method) for method in explanation.examples) else [""] * 3
    header = ["method", "rank", "ours" if theirs[0] else "example", "class", "classified", *theirs]
    return (
        f"{title}: training examples that explain why {test.text!r} is {explanation.explained_label} "
        f"(probability {explanation.probability:.4f})\n"
        f"(true class {test.label}, classified {test.predicted_label})\n\n{aligned([header, *rows], '<><<<<<<')}"
    )


def _rows(
    method: str, ours: Sequence[NamedExample], paper: Mapping[str, Sequence[NamedExample]]
) -> Iterator[Sequence[str]]:
    theirs = paper.get(method, ())
    for place, example in enumerate(ours):
        beside = _cells(theirs[place]) if place < len(theirs) else [""] * 3
        yield ["" if place else METHODS[method].title, str(place + 1), *_cells(example), *beside]


def _cells(example: NamedExample) -> list[str]:
    return [
        _cut(example.text, TEXT_WIDTH),
        _cut(example.label, CLASS_WIDTH),
        _cut(example.predicted_label, CLASS_WIDTH),
    ]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + _CUT
