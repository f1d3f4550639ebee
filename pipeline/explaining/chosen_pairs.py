"""Influence in float64 of chosen pairs: test inputs and training examples that are named row by row.

Axes: M chosen test inputs, N training examples, P parameters side by side.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.eigen import influence, side_by_side
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.draws import sampled_rows
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.explainer import Explainer, load_explainer
from relatif.pipeline.explaining.left_out import corrected_change, output_gradients
from relatif.pipeline.explaining.measured import load_measurement
from relatif.pipeline.explaining.solver import Solver, load_solver
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source, model_examples
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ConfigurationError

CHOSEN_ROWS = 64
"""Examples whose gradients are held at once, of the test set and of the training set."""


def sampled_tests(run: Run, count: int, seed: int, *, section: str) -> list[int]:
    """Return ``count`` of a run's test inputs in rising order.

    Raises ConfigurationError, naming the setting's ``section``, where fewer were scored.
    """
    if count > run.test_rows:
        raise ConfigurationError(
            f"expected {section}.test_count of at most the {run.test_rows} test inputs that were scored, found "
            f"{count}; lower it"
        )
    return sampled_rows(run.test_rows, count, seed)


def read_rows(source: Source, shards: Sequence[Shard], rows: Sequence[int]) -> tuple[Inputs, Tensor]:
    """Return the stored inputs [R, ...] and labels [R] of some rows, given in rising order."""
    inputs, labels = [], []
    for shard in shards:
        places = [row - shard.start for row in rows if shard.start <= row < shard.stop]
        if places:
            examples = source.stored(shard)
            inputs.append(batches.rows(examples.inputs, places))
            labels.append(examples.labels[places])
    return batches.joined(inputs), torch.cat(labels)


def explained_rows(
    source: Source, shards: Sequence[Shard], rows: Sequence[int], choice: str | int
) -> tuple[Inputs, Tensor]:
    """Return the stored inputs [R, ...] of some rows, and their explained targets [R, ...] by the trained model.

    The targets stay what they are while other models are measured on them.
    """
    task = source.load_task()
    model = source.load_model(task)
    stored, targets = read_rows(source, shards, rows)
    found = []
    for start in range(0, len(rows), CHOSEN_ROWS):
        some = slice(start, start + CHOSEN_ROWS)
        examples = model_examples(task, batches.rows(stored, some), targets[some], rows[start])
        with torch.no_grad():
            outputs = run_model(model, examples.inputs)
        found.append(task.likelihood.explained(outputs, examples.targets, choice))
    return stored, torch.cat(found)


@dataclass(frozen=True)
class ChosenPairsPlan:
    """What the influence of chosen pairs is computed from; ``explained`` is the target of the test inputs."""

    source: Source
    train_shards: tuple[Shard, ...]
    test_shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig
    measurement: str = LOSS

    def load(self, worker: Worker) -> "ChosenPairs":
        """Load the trained model and the run's curvature onto a worker's device."""
        if self.curvature.is_iterative:
            solver = load_solver(self.source, self.train_shards, self.curvature, worker)
            return ChosenPairs(self, solver.explainer, solver)
        return ChosenPairs(self, load_explainer(self.source, self.curvature, worker))


@dataclass(frozen=True)
class Queries:
    """Some test inputs and, where it is solved for, their (H + lambda I)^-1 g, [M, P]."""

    examples: ExplainedExamples
    solved: Tensor | None


@dataclass(frozen=True)
class ChosenPairs:
    """Computes the influence of any pair, also of nearest neighbours, for which top_k holds a distance instead."""

    plan: ChosenPairsPlan
    explainer: Explainer
    solver: Solver | None = None

    def queries(self, rows: Sequence[int]) -> Iterator[Queries]:
        """Yield some rows of the test set, given in rising order, CHOSEN_ROWS at a time."""
        for examples in self._explained(self.plan.test_shards, rows, "test"):
            yield Queries(examples, self._solved(examples))

    def training(self, rows: Sequence[int]) -> Iterator[ExplainedExamples]:
        """Yield some rows of the training set, given in rising order, CHOSEN_ROWS at a time."""
        return self._explained(self.plan.train_shards, rows, "train")

    def influence(self, queries: Queries, training: ExplainedExamples) -> Tensor:
        """Return I[t, i] (Eq. 3), [M, N]."""
        if queries.solved is None:
            return influence(self.explainer.curvature, queries.examples.gradients, training.gradients)
        return queries.solved @ side_by_side(training.gradients).dense().flatten(1).T

    def corrected(self, pairs: Iterable[tuple[int, int]]) -> dict[tuple[int, int], float]:
        """Return what leaving out each pair's training example changes of its test input, as ``corrected_change``.

        NaN where there is no such change: also with an iterative curvature, which has no eigen form to take it from.
        """
        asked = sorted(set(pairs))
        if self.solver is not None or not asked:
            return dict.fromkeys(asked, float("nan"))
        plan, explainer = self.plan, self.explainer
        measured = load_measurement(plan.measurement, explainer.subject.likelihood)
        tests = self._by_row(plan.test_shards, [test for test, _ in asked])
        trains = self._by_row(plan.train_shards, [train for _, train in asked])
        count, found = plan.train_shards[-1].stop, {}
        for test, of_test in groupby(asked, key=itemgetter(0)):
            explained = output_gradients(explainer, tests[test], plan.explained)
            for _, train in of_test:
                left_out = output_gradients(explainer, trains[train], "true")
                found[test, train] = corrected_change(explainer, explained, left_out, measured, count)
        return found

    def _by_row(self, shards: Sequence[Shard], rows: Sequence[int]) -> dict[int, Examples]:
        """Return some rows as the model reads them, a batch of one for each."""
        wanted = sorted(set(rows))
        stored, labels = read_rows(self.plan.source, shards, wanted)
        one = [slice(place, place + 1) for place in range(len(wanted))]
        task, device = self.explainer.task, self.explainer.worker.device
        return {
            row: model_examples(task, batches.rows(stored, place), labels[place], row, device)
            for row, place in zip(wanted, one, strict=True)
        }

    def _explained(self, shards: Sequence[Shard], rows: Sequence[int], split: str) -> Iterator[ExplainedExamples]:
        for start in range(0, len(rows), CHOSEN_ROWS):
            some = rows[start : start + CHOSEN_ROWS]
            stored, labels = read_rows(self.plan.source, shards, some)
            # The rows aren't consecutive, so an error would name a wrong one; but all of them passed score.
            examples = model_examples(self.explainer.task, stored, labels, some[0], self.explainer.worker.device)
            if split == "test":
                chosen, measured = self.plan.explained, self.plan.measurement
                yield self.explainer.explain(examples, explained=chosen, split=split, measurement=measured)
            else:
                yield self.explainer.explain(examples, explained="true", split=split)

    def _solved(self, examples: ExplainedExamples) -> Tensor | None:
        if self.solver is None:
            return None
        return self.solver.solve(side_by_side(examples.gradients).dense().flatten(1)).values
