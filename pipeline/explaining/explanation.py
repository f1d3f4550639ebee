"""The explanation of one input: the training examples that help and those that harm, with what is known of them.

Axes: n training examples, k ranks.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.explainer import without_target
from relatif.pipeline.explaining.helpers import Described, Helper
from relatif.pipeline.explaining.one_query import OneQuery
from relatif.pipeline.explaining.parts import Parts
from relatif.pipeline.explaining.query import TRAIN, Query
from relatif.pipeline.explaining.shown_query import HARMS, HELPS, PartTexts, ShownQuery, part_texts
from relatif.pipeline.influence.top_k import TopK
from relatif.pipeline.showing.fragment import html_of
from relatif.pipeline.showing.shown import Shown
from relatif.pipeline.showing.terminal import text_of
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import METHODS


@dataclass(frozen=True)
class Wanted:
    """What of an input is asked for: the ``top`` examples by each method, and how many that harm.

    ``without_itself`` leaves a training example out of its own explanation.
    """

    methods: tuple[str, ...]
    top: int = 10
    harms: int = 0
    without_itself: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """An input with what explains it: by each method the best examples, and ``harms``, those with the lowest scores.

    ``columns`` are what the model makes of the input, as the table ``test_examples`` tells it. ``classes`` are names.
    It shows itself: as text at a prompt, with pictures in a notebook.
    """

    query: Query
    one: OneQuery
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

    @cached_property
    def corrected(self) -> Mapping[int, float | None]:
        """What leaving out each example that helps or harms changes, by row, as ``OneQuery.corrected``."""
        found = [*self.methods.values(), *self.harms.values()]
        return self.one.corrected([each.train_index for helpers in found for each in helpers])

    def parts(self, by: str) -> dict[str, Parts]:
        """Return the parts of the scores by each method, those that help before those that harm, as ``OneQuery.split``.

        ``by`` is ``layer`` or ``token``.
        """
        rows = {
            name: [each.train_index for each in (*helpers, *self.harms.get(name, ()))]
            for name, helpers in self.methods.items()
        }
        return self.one.split(rows, by)

    def shown(self, by: str | None = None) -> Shown:
        """Return what people look at; with ``by`` scores are split by ``layer`` or by ``token``."""
        texts = part_texts(self.one, self.methods, self.harms, None if by is None else self.parts(by))
        return ShownQuery(self.one, self.columns, self.class_name, self.corrected, texts, by).shown(
            self.methods, self.harms
        )

    def as_json(self, by: str | None = None) -> dict[str, Any]:
        """Return what ``relatif explain --json`` writes; with ``by`` every example has the ``parts`` of its score."""
        texts = part_texts(self.one, self.methods, self.harms, None if by is None else self.parts(by))
        return {
            "explained_label": self.explained_label,
            "probability": self.probability,
            "methods": self._rows(self.methods, texts, HELPS),
            "harms": self._rows(self.harms, texts, HARMS),
            "query": {"told": self.query.told, "part": self.query.split, "row": self.query.row},
            "notes": list(self.query.notes),
            "explained_class": self.class_name(self.explained_label),
            "predicted_label": self.predicted_label,
            "label": self.label,
            "loss": self.columns.get("loss"),
            "target": self.columns.get("target"),
            "prediction": self.columns.get("prediction"),
            "self_influence": self.columns.get("self_influence"),
            "train_rows": self.train_rows,
        }

    def _rows(self, named: Mapping[str, tuple[Helper, ...]], texts: PartTexts, side: str) -> dict[str, Any]:
        return {
            name: [
                each.as_json() | self._corrected(name, each) | texts.as_json(name, side, place)
                for place, each in enumerate(found)
            ]
            for name, found in named.items()
        }

    def _corrected(self, method: str, helper: Helper) -> dict[str, float]:
        """Return the corrected effect by its key: none where there is none, as of a method that isn't additive."""
        value = self.corrected.get(helper.train_index) if METHODS[method].additive else None
        return {} if value is None else {"corrected": value}

    def __repr__(self) -> str:
        return text_of(self.shown())

    def _repr_html_(self) -> str:
        return html_of(self.shown())


def explanation(
    engine: Engine, known: Described, query: Query, wanted: Wanted, label: str | int | None = None
) -> Explanation:
    """Explain one input; ``label`` as ``Engine.queries`` takes it. Raises as that and as ``Engine.best``."""
    explainer = engine.explainer
    examples = query.examples(explainer.task, explainer.worker.device)
    chosen = engine.run.config.score.explained_label if label is None else label
    if (
        chosen == "true"
        and query.split is None
        and bool(without_target(explainer.subject.likelihood, examples.targets))
    ):
        raise ConfigurationError(
            f"expected the true label or target of {query.told}, found none; give it in a row, or explain another label"
        )
    queries = engine.queries(examples, label)
    itself = (
        query.row if wanted.without_itself and query.split == TRAIN and engine.run.config.data.scored is None else None
    )
    more = int(itself is not None)
    lowest = wanted.harms + more if wanted.harms else 0
    found = engine.best(queries, wanted.methods, k=wanted.top + more, lowest=lowest)
    return Explanation(
        query,
        OneQuery(engine, query, examples, queries, chosen),
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


def _label(value: Any) -> int | None:
    return None if value is None or value == UNLABELLED else int(value)


def _plain(value: Any) -> Any:
    """Return a number, or a list of numbers, with None for what is no number."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
