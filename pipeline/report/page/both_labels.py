"""One wrong answer, explained for the label that the model gives and for the true one (the paper's Fig. 7)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples, joined
from relatif.pipeline.report.page.columns import Positions, rounded_number
from relatif.pipeline.report.page.page import kind_of
from relatif.pipeline.report.page.sources import Source
from relatif.pipeline.report.page.tables import Examples

CANDIDATES, RANKS = 100, 5
"""Wrong answers that are looked at, and examples that are shown for each label."""

METHODS = ("l_relatif", "theta_relatif")
"""Of these the first that was scored explains."""


@dataclass(frozen=True)
class Side:
    """A label's number, the model's probability of it, and the training rows that explain it, best first."""

    label: int
    probability: float
    rows: Sequence[int]


@dataclass(frozen=True)
class BothLabels:
    """A test row that the model gets wrong, and by one method what explains the predicted label, then the true one."""

    test: int
    method: str
    sides: tuple[Side, Side]

    def json(self, train: Positions, test: Positions) -> dict[str, Any]:
        """Return the panel as the page reads it; rows get positions."""
        return {
            "test": test.of([self.test])[0],
            "method": self.method,
            "sides": [
                {
                    "label": side.label,
                    "probability": rounded_number(side.probability),
                    "train": train.of(side.rows),
                }
                for side in self.sides
            ],
        }


def both_labels(source: Source, engine: Engine) -> BothLabels | None:
    """Return the wrong answer whose true label the model finds most probable, of all inputs, explained both ways.

    None where targets are no classes, no answer is wrong, or no form of RelatIF was scored.
    """
    tables = source.tables
    method = next((name for name in METHODS if name in tables.methods), None)
    if method is None or kind_of(source.run, tables) != "classes":
        return None
    rows = tables.test.index[undecided(tables.test)].tolist()
    if not rows:
        return None
    true = engine.rows("test", rows, "true")
    closest = int(true.columns["probability"].argmax())
    queries = joined([engine.rows("test", [rows[closest]], "predicted"), true.rows(slice(closest, closest + 1))])
    best = engine.best(queries, [method], k=RANKS).best[method].indices.tolist()
    return BothLabels(rows[closest], method, (_side(queries, 0, best), _side(queries, 1, best)))


def undecided(test: Examples) -> NDArray[np.int64]:
    """Return the places of at most CANDIDATES wrong answers, those first whose probability is nearest to 1/2."""
    wrong = np.flatnonzero(test.wrong())
    probability = np.asarray(test.numbers.get("probability", np.zeros(len(test))), np.float64)[wrong]
    return wrong[np.lexsort((wrong, np.abs(np.nan_to_num(probability) - 0.5)))[:CANDIDATES]]


def _side(queries: ExplainedExamples, number: int, best: Sequence[Sequence[int]]) -> Side:
    columns = queries.columns
    return Side(int(columns["explained_label"][number]), float(columns["probability"][number]), best[number])
