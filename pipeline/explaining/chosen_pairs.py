"""Influence pair by pair in float64, of test inputs that are chosen one by one.

Axes: M chosen test inputs, N training examples, P parameters side by side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import influence, side_by_side
from relatif.pipeline.datasets.shards import Shard, read_shard
from relatif.pipeline.explaining.examples import Rows
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.solver import SolvePlan, Solver
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.factors import load_eigen_form
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ConfigurationError

PIECE_ROWS = 64
"""Examples whose gradients are held at once, of the test set and of the training set."""


def sampled_rows(rows: int, count: int, seed: int) -> list[int]:
    """Return ``count`` of ``rows`` rows in rising order, drawn without replacement; a larger count keeps them all."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


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


def read_rows(source: Source, shards: Sequence[Shard], rows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the stored inputs [R, ...] and labels [R] of some rows, given in rising order."""
    inputs, labels = [], []
    for shard in shards:
        places = [row - shard.start for row in rows if shard.start <= row < shard.stop]
        if places:
            examples = read_shard(source.data, source.dataset, shard)
            inputs.append(examples.inputs[places])
            labels.append(examples.labels[places])
    return torch.cat(inputs), torch.cat(labels)


@dataclass(frozen=True)
class PairwisePlan:
    """What influence is computed of; ``explained`` says at which label of a test input."""

    source: Source
    train_shards: tuple[Shard, ...]
    test_shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig

    def load(self, threads: int, device: str) -> "Pairwise":
        """Load the trained model and the run's curvature in an actor."""
        if self.curvature.is_iterative:
            solver = SolvePlan(self.source, self.train_shards, self.explained, self.curvature)(threads, device)
            return Pairwise(self, solver.explainer, solver)
        task = self.source.load_task()
        subject = self.source.load_subject(task, self.curvature, device)
        return Pairwise(self, Explainer(task, subject, load_eigen_form(self.source, self.curvature, device), device))


@dataclass(frozen=True)
class TestPiece:
    """Some test inputs and, where it is solved for, their (H + lambda I)^-1 g, [M, P]."""

    __test__ = False  # no test class, whatever pytest makes of the name

    rows: Rows
    solved: Tensor | None


@dataclass(frozen=True)
class Pairwise:
    """Computes influence of any pair, of nearest neighbours, too, which top_k does not hold with their influence."""

    plan: PairwisePlan
    explainer: Explainer
    solver: Solver | None = None

    def tests(self, rows: Sequence[int]) -> Iterator[TestPiece]:
        """Yield some rows of the test set, given in rising order, in pieces."""
        for piece in self._pieces(self.plan.test_shards, rows, self.plan.explained, "test"):
            yield TestPiece(piece, self._solved(piece))

    def trains(self, rows: Sequence[int]) -> Iterator[Rows]:
        """Yield some rows of the training set, given in rising order, in pieces."""
        return self._pieces(self.plan.train_shards, rows, "true", "train")

    def influence(self, test: TestPiece, train: Rows) -> Tensor:
        """Return I[t, i] (Eq. 3), [M, N]."""
        if test.solved is None:
            return influence(self.explainer.curvature, test.rows.gradients, train.gradients)
        return test.solved @ side_by_side(train.gradients).dense().flatten(1).T

    def _pieces(self, shards: Sequence[Shard], rows: Sequence[int], explained: str | int, split: str) -> Iterator[Rows]:
        for start in range(0, len(rows), PIECE_ROWS):
            piece = rows[start : start + PIECE_ROWS]
            stored, labels = read_rows(self.plan.source, shards, piece)
            inputs = self.explainer.task.model_inputs(stored).to(self.explainer.device).double()
            labels = labels.to(self.explainer.device)
            # Errors would name rows from the piece's first on; but all of these rows passed score.
            yield self.explainer.rows(inputs, labels, explained=explained, first=piece[0], split=split)

    def _solved(self, test: Rows) -> Tensor | None:
        if self.solver is None:
            return None
        return self.solver.solve(side_by_side(test.gradients).dense().flatten(1)).values
