"""Training examples that explain an input, with what a finished run knows of them.

Axes: k ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from torch import Tensor

from relatif.pipeline.datasets.ids import RowIds
from relatif.pipeline.runs.run import Run
from relatif.schemas.methods import INFLUENCE, Method
from relatif.schemas.tables import TRAIN_EXAMPLES

KNOWN = ("label", "predicted_label", "probability", "theta_norm", "self_influence", "target", "prediction")
"""Columns of ``train_examples`` that an explanation tells of, beside the row itself."""


CONTRACT = ("rank", "train_index", "train_id", "label", "probability", "score")
"""Keys that every row of the JSON has."""


@dataclass(frozen=True)
class Helper:
    """A training example that explains an input.

    ``effect`` is influence / n, in the unit of what is measured: about by how much the input's loss would rise if the
    example were left out. None where the method is not made of influence.
    """

    rank: int
    train_index: int
    train_id: str | None
    label: int | None
    probability: float | None
    score: float
    effect: float | None
    predicted_label: int | None
    target: tuple[float | None, ...] | None = None
    prediction: tuple[float | None, ...] | None = None

    def as_json(self) -> dict[str, Any]:
        """Return what ``relatif explain --json`` writes of it: what the contract names, and what is known besides."""
        return {name: value for name, value in asdict(self).items() if name in CONTRACT or value is not None}


@dataclass(frozen=True, eq=False)
class Described:
    """What a finished run knows of its training examples: columns of ``train_examples`` by row, and their names."""

    rows: pa.Table
    ids: RowIds
    train_rows: int

    def helpers(self, method: Method, indices: Tensor, scores: Tensor) -> tuple[Helper, ...]:
        """Return training examples [k] with their scores by a method, described, in the order of their ranks."""
        has_names = self.ids.dataset.description.id_column is not None
        names = self.ids.of(indices.numpy()).to_pylist() if has_names else [None] * len(indices)
        # Row by row: a list of rows makes Arrow load pandas, where that is installed.
        found = [row for index in indices.tolist() for row in self.rows.slice(index, 1).to_pylist()]
        return tuple(
            Helper(
                rank=place + 1,
                train_index=row["train_index"],
                train_id=name,
                score=score,
                effect=_effect(method, score, row, self.train_rows),
                label=row["label"],
                predicted_label=row["predicted_label"],
                probability=row["probability"],
                target=_numbers(row["target"]),
                prediction=_numbers(row["prediction"]),
            )
            for place, (row, name, score) in enumerate(zip(found, names, scores.tolist(), strict=True))
        )


def described(run: Run) -> Described:
    """Read what a run knows of its training examples; MissingStageError where it was not scored."""
    there = run.table(TRAIN_EXAMPLES.name)
    for name in KNOWN:
        if name not in there.schema.names:  # a run by an earlier version
            there = there.append_column(name, pa.nulls(there.num_rows))
    ids = RowIds(run.data, run.dataset, run.scored_shards[0].split)
    return Described(there.select(["train_index", *KNOWN]).sort_by("train_index"), ids, run.train_rows)


def _effect(method: Method, score: float, row: Mapping[str, Any], n: int) -> float | None:
    """Return influence / n from a score by a method that is made of influence."""
    if method.numerator != INFLUENCE:
        return None
    denominator = 1.0 if method.denominator is None else row[method.denominator]
    return method.sign * score * (math.sqrt(denominator) if method.root else denominator) / n


def _numbers(value: list[float | None] | None) -> tuple[float | None, ...] | None:
    return None if value is None else tuple(value)
