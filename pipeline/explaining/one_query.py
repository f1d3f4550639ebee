"""What is computed of explained inputs and some training examples where it is asked for: parts of scores, corrections.

Axes: M queries, N training examples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import torch

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.left_out_pairs import Removal, corrected_changes
from relatif.pipeline.explaining.measured import load_measurement, measurement_name
from relatif.pipeline.explaining.parts import (
    Parts,
    parts_of_gradients,
    parts_of_influence,
    parts_of_solution,
    token_count,
)
from relatif.pipeline.explaining.query import Query
from relatif.pipeline.influence.block import scale_of
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.methods import DISTANCE, GRADIENT, METHODS, Method

ROWS_READ = 4096
"""Training examples that are read at once for many queries."""

LAYER, TOKEN = "layer", "token"


@dataclass(frozen=True, eq=False)
class OneQuery:
    """One input that an engine explained: as the model reads it, differentiated, and the label that was asked for."""

    engine: Engine
    query: Query
    examples: Examples
    explained: ExplainedExamples
    label: str | int

    @property
    def run(self) -> Run:
        """Return the run that explains it."""
        return self.engine.run

    @property
    def measurement(self) -> str:
        """Return what is explained of it: the loss, or another measurement by its name."""
        config = self.run.config.score.model_copy(update={"explained_label": self.label})
        return measurement_name(config, self.engine.explainer.subject.likelihood)

    def corrected(self, rows: Sequence[int]) -> dict[int, float | None]:
        """Return by row what leaving a training example out changes, with its own curvature; None where it can't."""
        known, explainer = sorted(set(rows)), self.engine.explainer
        if self.run.config.data.scored is not None or not known:
            return dict.fromkeys(known)
        measured = load_measurement(self.measurement, explainer.subject.likelihood)
        pairs = [(0, place) for place in range(len(known))]
        removal = Removal(self.label, measured, self.run.train_rows)
        training = self.engine.training_examples(known)
        found = corrected_changes(explainer, self.examples, training, pairs, removal).tolist()
        return {row: value if value == value else None for row, value in zip(known, found, strict=True)}  # noqa: PLR0124

    def split(self, named: Mapping[str, Sequence[int]], by: str) -> dict[str, Parts]:
        """Return the parts of each method's scores of its training examples, in their order: by layer, or by token too.

        There are none of a distance. Raises ConfigurationError where inputs have no tokens.
        """
        tokens = self._tokens(by)
        split = {METHODS[name]: rows for name, rows in named.items() if METHODS[name].numerator != DISTANCE and rows}
        known = sorted({row for rows in split.values() for row in rows})
        if not known:
            return {}
        training, explainer = self.engine.training_examples(known), self.engine.explainer
        columns = explainer.explain(training, explained="true", split="train").columns
        found = {each: self._numerators(each, training, tokens) for each in {method.numerator for method in split}}
        parts = {}
        for method, rows in split.items():
            scale = scale_of(method, columns, len(known)) / self._own_norm(method)
            places = torch.searchsorted(torch.tensor(known), torch.tensor(rows)).tolist()
            parts[method.name] = found[method.numerator].scaled(scale.cpu()).rows(places)
        return parts

    def _numerators(self, numerator: str, training: Examples, tokens: int | None) -> Parts:
        if numerator == GRADIENT:
            return parts_of_gradients(self.engine.explainer, self.explained, training, tokens)
        return _of_influence(self.engine, self.explained, training, tokens)

    def _own_norm(self, method: Method) -> float:
        return (float(self.explained.columns["gradient_norm"][0]) or 1.0) if method.normalized else 1.0

    def _tokens(self, by: str) -> int | None:
        tokens = token_count(self.run.dataset.description)
        if by == TOKEN and tokens is None:
            raise ConfigurationError(
                f"expected inputs that are texts to split scores by token, found those of {self.run.dataset.name}; "
                f"split them by layer"
            )
        return tokens if by == TOKEN else None


def influence_parts(
    engine: Engine, queries: ExplainedExamples, pairs: Sequence[tuple[int, int]], *, tokens: int | None
) -> Iterator[tuple[int, Parts]]:
    """Yield each query's place, rising, with the parts of its influence: pairs of that place and a training row.

    The parts of a query are in the order of its pairs. ``tokens`` are those of an input, as ``token_count`` says; None
    splits by layer alone.
    """
    by_query = {
        place: [row for _, row in same] for place, same in groupby(sorted(pairs, key=itemgetter(0)), key=itemgetter(0))
    }
    for some in _read_together(by_query):
        known = sorted({row for place in some for row in by_query[place]})
        stored, targets = engine.training.examples(known)
        for place in some:
            rows = torch.searchsorted(torch.tensor(known), torch.tensor(by_query[place]))
            training = _model_rows(engine, stored, targets, rows)
            yield place, _of_influence(engine, queries.rows(slice(place, place + 1)), training, tokens)


def _read_together(by_query: Mapping[int, Sequence[int]]) -> Iterator[list[int]]:
    """Yield consecutive queries whose training examples are at most ROWS_READ, or one query."""
    some, rows = list[int](), set[int]()
    for place, mine in by_query.items():
        if some and len(rows | set(mine)) > ROWS_READ:
            yield some
            some, rows = [], set()
        some.append(place)
        rows |= set(mine)
    if some:
        yield some


def _model_rows(engine: Engine, stored: Inputs, targets: torch.Tensor, rows: torch.Tensor) -> Examples:
    task, device = engine.explainer.task, engine.explainer.worker.device
    return model_examples(task, batches.rows(stored, rows), targets[rows], 0, device)


def _of_influence(engine: Engine, query: ExplainedExamples, training: Examples, tokens: int | None) -> Parts:
    solved = engine.solved(query)
    if solved is None:
        return parts_of_influence(engine.explainer, query, training, tokens)
    return parts_of_solution(engine.explainer, solved, training, tokens)
