"""The query engine: any inputs explained from a finished run, without Ray.

Axes: M queries, n training examples, k ranks, R training examples of each query.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import influence, side_by_side
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.devices import Worker, use_plain_arithmetic
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.explainer import Explainer, load_explainer
from relatif.pipeline.explaining.found import Asked, Found, asked_for
from relatif.pipeline.explaining.gradient_store import open_gradients
from relatif.pipeline.explaining.measured import measurement_name
from relatif.pipeline.explaining.posed import Posed, posed
from relatif.pipeline.explaining.query import read_part_rows
from relatif.pipeline.explaining.solver import SOLVED_ROWS, Solver, load_solver
from relatif.pipeline.explaining.training_pass import Say, TrainingPass
from relatif.pipeline.explaining.training_store import TrainingStore
from relatif.pipeline.influence.places import Placed, distances
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.inputs import Inputs
from relatif.pipeline.inputs import features as numbers_of
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples, require_arithmetic
from relatif.schemas import run_directory

PAIR_ROWS = 64
"""Training examples whose float64 influence on all queries is computed at once."""

PLACED_ENTRIES = 2**24
"""Distances that are sorted at once: 128 MiB."""


class Training(Protocol):
    """Where training gradients come from."""

    @property
    def is_stored(self) -> bool:
        """Return whether the run kept them, so that no pass over the training set is needed."""
        ...

    def precision(self, asked: Asked) -> Precision:
        """Return how closely a block of queries has to be computed."""
        ...

    def block_rows(self, asked: Asked) -> int:
        """Return how many queries are answered at once."""
        ...

    def examples(self, rows: Sequence[int]) -> tuple[Inputs, Tensor]:
        """Return training examples [R, ...] as the data stores them, given in rising order, with their targets."""
        ...

    def search(self, posed: Posed, asked: Asked) -> Found:
        """Return what is asked for of a block of queries."""
        ...


@dataclass(frozen=True, eq=False)
class Engine:
    """A finished run that explains queries: its model and curvature, and where its training gradients come from."""

    run: Run
    explainer: Explainer
    training: Training
    solver: Solver | None = None

    def queries(self, examples: Examples, label: str | int | None = None) -> ExplainedExamples:
        """Return inputs as the model reads them [M, ...], differentiated: what the other functions take.

        ``label`` is what is explained: ``predicted``, ``true``, a class or output; None: what the run explained. Raises
        ConfigurationError for a label that the likelihood lacks, DataError for an input without the label it needs.
        """
        chosen = self.run.config.score.explained_label if label is None else label
        likelihood = self.explainer.subject.likelihood
        likelihood.check_choice(chosen, len(self.run.dataset.class_names))
        measured = measurement_name(self.run.config.score.model_copy(update={"explained_label": chosen}), likelihood)
        require_arithmetic(examples, "what is explained")
        return self.explainer.explain(examples, explained=chosen, split="test", measurement=measured)

    def rows(self, split: str, rows: Sequence[int], label: str | int | None = None) -> ExplainedExamples:
        """Return rows of the test or training part as queries, in any order; raises as ``queries``.

        ConfigurationError too for a row that the part does not have.
        """
        stored, targets = read_part_rows(self.run, split, rows)
        device = self.explainer.worker.device
        return self.queries(model_examples(self.explainer.task, stored, targets, 0, device), label)

    def best(
        self, queries: ExplainedExamples, methods: Sequence[str], *, k: int, lowest: int = 0, histograms: bool = False
    ) -> Found:
        """Return the k best training examples by each method, and what else is asked for; raises as ``asked_for``.

        Scores are those of the table ``top_k``. Of a signed method ``lowest`` examples with the lowest scores are
        found, too, and ``histograms`` of all of them. Queries are taken in blocks, so that memory stays bounded.
        """
        asked = asked_for(methods, self.run.scored_rows, k=k, lowest=lowest, histograms=histograms)
        training, height = self.training, self.training.block_rows(asked)
        parts = []
        for start in range(0, len(queries), height):
            some = queries.rows(slice(start, start + height))
            block = posed(self.explainer, some, self.solved(some), asked, training.precision(asked))
            parts.append(training.search(block, asked))
        return Found.joined(parts)

    def places(self, queries: ExplainedExamples, rows: Tensor) -> Tensor:
        """Return the places of training rows [M, R] by input distance, [M, R] int64: 1 is the nearest of all.

        Equal distances come in the order of rows, as in the table ``top_k``.
        """
        wanted = rows.unique().tolist()
        near = numbers_of(self.training_examples(wanted).inputs)
        places = torch.searchsorted(torch.tensor(wanted), rows.contiguous())
        of_queries = numbers_of(queries.inputs)
        apart = [distances(query, near[chosen]) for query, chosen in zip(of_queries, places, strict=True)]
        placed = Placed(of_queries, rows, torch.stack(apart))
        counts = torch.ones_like(rows)
        for shard in self.run.scored_shards:
            source, explainer = self.run.source, self.explainer
            shown = numbers_of(source.examples(explainer.task, shard, explainer.worker.device).inputs)
            height = max(1, PLACED_ENTRIES // len(shown))
            for start in range(0, len(rows), height):
                counts[start : start + height] += placed.of(slice(start, start + height)).nearer(shown, shard.start)
        return counts

    def influence(self, queries: ExplainedExamples, rows: Tensor) -> Tensor:
        """Return plain influence of training rows [M, R] on each query, [M, R] float64 (Eq. 3)."""
        solved = self.solved(queries)
        found = torch.zeros(rows.shape, dtype=torch.float64)
        for some in rows.unique().split(PAIR_ROWS):
            examples = self.training_examples(some.tolist())
            training = self.explainer.explain(examples, explained="true", split="train")
            if solved is None:
                values = influence(self.explainer.curvature, queries.gradients, training.gradients)
            else:
                values = solved @ side_by_side(training.gradients).dense().flatten(1).T
            places = torch.searchsorted(some, rows.contiguous()).clamp_(max=len(some) - 1)
            here = some[places] == rows
            found = torch.where(here, values.cpu().double().gather(1, places), found)
        return found

    def by_kept(self) -> "Engine":
        """Return the engine that reads the gradients that the run kept, itself where there are none.

        It finds the same examples with the same scores; only histograms are of rounded gradients.
        """
        there = not self.training.is_stored and self.run.store.exists(run_directory.GRADIENTS)
        kept = open_gradients(self.run) if there else None
        if kept is None:
            return self
        pool = self.explainer.worker.pool()
        return replace(self, training=TrainingStore(self.explainer, kept, pool, self.run.scored_rows))

    def training_examples(self, rows: Sequence[int]) -> Examples:
        """Return scored examples as the model reads them, given in rising order."""
        stored, targets = self.training.examples(rows)
        return model_examples(self.explainer.task, stored, targets, rows[0], self.explainer.worker.device)

    def solved(self, queries: ExplainedExamples) -> Tensor | None:
        """Return (H + lambda I)^-1 g_t [M, P] where the curvature is iterative, else None."""
        if self.solver is None:
            return None
        rows = side_by_side(queries.gradients).dense().flatten(1)
        return torch.cat([self.solver.solve(some).values for some in rows.split(SOLVED_ROWS)])


def load_engine(run: Run, worker: Worker | None = None, *, say: Say = lambda _: None, use_kept: bool = True) -> Engine:
    """Load a finished run's model and curvature; ``say`` is told how long what takes long will take.

    The worker has all cores by default. Without ``use_kept`` a pass over the training set is made even where the run
    kept gradients: its histograms are exact, where those of kept gradients are rounded. Raises MissingStageError where
    the run is not finished, and as ``load_explainer``.
    """
    use_plain_arithmetic()
    worker = Worker(os.cpu_count() or 1) if worker is None else worker
    solver, config = None, run.config.curvature
    if config.is_iterative:
        solver = load_solver(run.source, run.train_shards, config, worker)
        explainer = solver.explainer
    else:
        explainer = load_explainer(run.source, config, worker)
    pool, kept = worker.pool(), open_gradients(run) if use_kept else None
    if kept is None:
        return Engine(run, explainer, TrainingPass(run, explainer, pool, say), solver)
    return Engine(run, explainer, TrainingStore(explainer, kept, pool, run.scored_rows), solver)
