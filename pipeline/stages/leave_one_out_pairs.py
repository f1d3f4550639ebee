"""Which pairs of test input and training example leave-one-out looks at, and what influence predicts for each.

Axes: M chosen test inputs, N training examples that are left out, P parameters side by side.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pipeline.curvature.eigen import influence, side_by_side
from pipeline.datasets.shards import Shard, read_shard
from pipeline.stages.explainer import Explainer
from pipeline.stages.factors import load_eigen_form
from pipeline.stages.model import Source
from pipeline.stages.rows import Rows
from pipeline.stages.solve import SolvePlan, Solver
from pipeline.storage.manifests import publish_manifest
from pipeline.storage.parquet import iter_batches
from pipeline.storage.store import Store
from pipeline.storage.tensors import write_tensors
from schemas import run_directory
from schemas.config import CurvatureConfig
from schemas.errors import DataError
from schemas.manifest import Manifest
from schemas.tables import METHODS, TEST_EXAMPLES, TOP_K

PREDICTED = "predicted_test_loss_change"

PIECE_ROWS = 64
"""Examples whose gradients are held at once, of the test set and of the training set."""


@dataclass(frozen=True)
class Pair:
    """A method's best training example for a test input, and the label that is explained."""

    method: str
    test_index: int
    train_index: int
    explained_label: int


def sampled_rows(rows: int, count: int, seed: int) -> list[int]:
    """Return ``count`` of ``rows`` rows in rising order, drawn without replacement; a larger count keeps them all."""
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:count].tolist())


def best_pairs(store: Store, tests: Sequence[int]) -> list[Pair]:
    """Return the rank 1 of every method for some test inputs, by test input and method, from finished tables.

    Raises DataError where the tables lack one.
    """
    labels = {row["test_index"]: row["explained_label"] for row in _rows(store, TEST_EXAMPLES.name, tests)}
    ranked = (row for row in _rows(store, TOP_K.name, tests) if row["rank"] == 1)
    best = {(row["test_index"], row["method"]): row["train_index"] for row in ranked}
    missing = [(test, method) for test in tests for method in METHODS if (test, method) not in best]
    if missing or set(labels) != set(tests):
        raise DataError(
            f"expected an explanation by every method of {len(tests)} test inputs in {store.describe()}, found "
            f"{len(missing)} missing; run the score stage again"
        )
    return [Pair(method, test, best[test, method], labels[test]) for test in tests for method in METHODS]


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
class PredictionUnit:
    """All chosen test inputs against all training examples that are left out, both in rising order."""

    tests: tuple[int, ...]
    trains: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class PredictionPlan:
    """What predictions are made of."""

    source: Source
    train_shards: tuple[Shard, ...]
    test_shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig

    def __call__(self, threads: int, device: str) -> "Predictor":
        """Load the trained model and the run's curvature in an actor."""
        if self.curvature.is_iterative:
            solver = SolvePlan(self.source, self.train_shards, self.explained, self.curvature)(threads, device)
            return Predictor(self, solver.explainer, solver)
        task = self.source.load_task()
        subject = self.source.load_subject(task, self.curvature, device)
        return Predictor(self, Explainer(task, subject, load_eigen_form(self.source, self.curvature, device), device))


@dataclass(frozen=True)
class Predictor:
    """Computes influence pair by pair in float64: of nearest neighbours, too, which top_k does not hold."""

    plan: PredictionPlan
    explainer: Explainer
    solver: Solver | None = None

    def __call__(self, unit: PredictionUnit) -> Manifest:
        """Compute I[t, i] / n (Eq. 5) of every test input and training example, [M, N], publish and prove."""
        started = time.monotonic()
        lines = []
        for test in self._pieces(self.plan.test_shards, unit.tests, self.plan.explained, "test"):
            solved = self._solved(test)
            trains = self._pieces(self.plan.train_shards, unit.trains, "true", "train")
            lines.append(torch.cat([self._influence(test, solved, train) for train in trains], dim=1))
        store, count = self.plan.source.store, self.plan.train_shards[-1].stop
        predicted = {PREDICTED: torch.cat(lines) / count}
        proof = Manifest(
            work="predictions",
            digest=unit.digest,
            outputs=(write_tensors(store, run_directory.PREDICTIONS, predicted, {}),),
            seconds=round(time.monotonic() - started, 3),
        )
        publish_manifest(store, run_directory.PREDICTIONS_MANIFEST, proof)
        return proof

    def _pieces(self, shards: Sequence[Shard], rows: Sequence[int], explained: str | int, split: str) -> Iterator[Rows]:
        for start in range(0, len(rows), PIECE_ROWS):
            piece = rows[start : start + PIECE_ROWS]
            stored, labels = read_rows(self.plan.source, shards, piece)
            inputs = self.explainer.task.model_inputs(stored).to(self.explainer.device).double()
            labels = labels.to(self.explainer.device)
            # Errors would name rows from the piece's first on; but all of these rows passed score.
            yield self.explainer.rows(inputs, labels, explained=explained, first=piece[0], split=split)

    def _solved(self, test: Rows) -> Tensor | None:
        """Return (H + lambda I)^-1 g_t, [M, P], where it is solved for."""
        if self.solver is None:
            return None
        return self.solver.solve(side_by_side(test.gradients).dense().flatten(1)).values

    def _influence(self, test: Rows, solved: Tensor | None, train: Rows) -> Tensor:
        if solved is None:
            return influence(self.explainer.curvature, test.gradients, train.gradients)
        return solved @ side_by_side(train.gradients).dense().flatten(1).T


def _rows(store: Store, table: str, tests: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield a table's rows of some test inputs."""
    for batch in iter_batches(store, run_directory.table(table)):
        yield from batch.filter(pc.is_in(batch["test_index"], value_set=pa.array(tests, pa.int64()))).to_pylist()
