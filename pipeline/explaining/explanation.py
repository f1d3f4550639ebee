"""The explanation of one input: the training examples that help and those that harm, with what is known of them.

Axes: n training examples, k ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.datasets.ids import RowIds
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.query import TRAIN, Query
from relatif.pipeline.influence.top_k import TopK
from relatif.pipeline.runs.run import Run
from relatif.schemas.methods import INFLUENCE, METHODS, Method
from relatif.schemas.tables import TRAIN_EXAMPLES

KNOWN = ("label", "predicted_label", "probability", "theta_norm", "self_influence", "target", "prediction")
"""Columns of ``train_examples`` that an explanation tells of, beside the row itself."""


CONTRACT = ("rank", "train_index", "train_id", "label", "probability", "score")
"""Keys that every row of the JSON has."""


@dataclass(frozen=True)
class Wanted:
    """What of an input is asked for: the ``top`` examples by each method, and how many that harm.

    ``without_itself`` leaves a training example out of its own explanation.
    """

    methods: tuple[str, ...]
    top: int = 10
    harms: int = 0
    without_itself: bool = False


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


@dataclass(frozen=True, eq=False)
class Explanation:
    """An input with what explains it: by each method the best examples, and ``harms``, those with the lowest scores.

    ``columns`` are what the model makes of the input, as the table ``test_examples`` tells it. ``classes`` are names.
    """

    query: Query
    columns: Mapping[str, Any]
    methods: Mapping[str, tuple[Helper, ...]]
    harms: Mapping[str, tuple[Helper, ...]]
    classes: tuple[str, ...]
    train_rows: int

    @property
    def explained_label(self) -> int | None:
        """The class that is explained, None where there are no classes."""
        return _label(self.columns.get("explained_label"))

    @property
    def predicted_label(self) -> int | None:
        """The class that the model predicts."""
        return _label(self.columns.get("predicted_label"))

    @property
    def label(self) -> int | None:
        """The input's own class, where it is known."""
        return _label(self.columns.get("label"))

    @property
    def probability(self) -> float | None:
        """The model's probability of the explained label."""
        return self.columns.get("probability")

    def class_name(self, label: int | None) -> str | None:
        """Return the name of a class, None without one."""
        return self.classes[label] if label is not None and 0 <= label < len(self.classes) else None

    def as_json(self) -> dict[str, Any]:
        """Return what ``relatif explain --json`` writes."""
        return {
            "explained_label": self.explained_label,
            "probability": self.probability,
            "methods": {name: [_row(each) for each in found] for name, found in self.methods.items()},
            "harms": {name: [_row(each) for each in found] for name, found in self.harms.items()},
            "query": {"told": self.query.told, "part": self.query.split, "row": self.query.row},
            "explained_class": self.class_name(self.explained_label),
            "predicted_label": self.predicted_label,
            "label": self.label,
            "loss": self.columns.get("loss"),
            "target": self.columns.get("target"),
            "prediction": self.columns.get("prediction"),
            "self_influence": self.columns.get("self_influence"),
            "train_rows": self.train_rows,
        }


@dataclass(frozen=True, eq=False)
class Described:
    """What a finished run knows of its training examples: columns of ``train_examples`` by row, and their names."""

    rows: pa.Table
    ids: RowIds
    train_rows: int

    def helpers(self, method: Method, indices: Tensor, scores: Tensor) -> tuple[Helper, ...]:
        """Return training examples [k] with their scores by a method, described, in the order of their ranks."""
        names = self.ids.of(indices.numpy()).to_pylist()
        found = self.rows.take(pa.array(indices.numpy())).to_pylist()
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


def explanation(
    engine: Engine, known: Described, query: Query, wanted: Wanted, label: str | int | None = None
) -> Explanation:
    """Explain one input; ``label`` as ``Engine.queries`` takes it. Raises as that and as ``Engine.best``."""
    explainer = engine.explainer
    queries = engine.queries(query.examples(explainer.task, explainer.worker.device), label)
    itself = (
        query.row if wanted.without_itself and query.split == TRAIN and engine.run.config.data.scored is None else None
    )
    more = int(itself is not None)
    lowest = wanted.harms + more if wanted.harms else 0
    found = engine.best(queries, wanted.methods, k=wanted.top + more, lowest=lowest)
    return Explanation(
        query,
        {name: _plain(values[0].tolist()) for name, values in queries.columns.items()},
        _helpers(known, found.best, itself, wanted.top),
        _helpers(known, found.lowest, itself, wanted.harms),
        engine.run.dataset.class_names,
        engine.run.train_rows,
    )


def _helpers(
    known: Described, ranked: Mapping[str, TopK], itself: int | None, count: int
) -> dict[str, tuple[Helper, ...]]:
    """Return the ranks of one query, described, but for the example that is the query ``itself``."""
    found = {}
    for name, ranks in ranked.items():
        indices, scores = ranks.indices[0], ranks.scores[0]
        kept = torch.ones_like(indices, dtype=torch.bool) if itself is None else indices != itself
        found[name] = known.helpers(METHODS[name], indices[kept][:count], scores[kept][:count])
    return found


def _effect(method: Method, score: float, row: Mapping[str, Any], n: int) -> float | None:
    """Return influence / n from a score by a method that is made of influence."""
    if method.numerator != INFLUENCE:
        return None
    denominator = 1.0 if method.denominator is None else row[method.denominator]
    return method.sign * score * (math.sqrt(denominator) if method.root else denominator) / n


def _numbers(value: list[float | None] | None) -> tuple[float | None, ...] | None:
    return None if value is None else tuple(value)


def _label(value: Any) -> int | None:
    return None if value is None or value == UNLABELLED else int(value)


def _plain(value: Any) -> Any:
    """Return a number, or a list of numbers, with None for what is no number."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _row(helper: Helper) -> dict[str, Any]:
    return {name: value for name, value in asdict(helper).items() if name in CONTRACT or value is not None}
