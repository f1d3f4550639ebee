"""Which pairs of test input and training example leave-one-out looks at, and what influence predicts for each.

Axes: M chosen test inputs, N training examples that are left out.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch

from relatif.pipeline.explaining.chosen_pairs import Pairwise, PairwisePlan
from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.parquet import iter_batches
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.manifest import Manifest
from relatif.schemas.tables import METHODS, TEST_EXAMPLES, TOP_K

PREDICTED = "predicted_test_loss_change"


@dataclass(frozen=True)
class Pair:
    """A method's best training example for a test input, and the label that is explained."""

    method: str
    test_index: int
    train_index: int
    explained_label: int


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


@dataclass(frozen=True)
class PredictionUnit:
    """All chosen test inputs against all training examples that are left out, both in rising order, by a curvature."""

    method: str
    tests: tuple[int, ...]
    trains: tuple[int, ...]
    digest: str


@dataclass(frozen=True)
class PredictionPlan:
    """What a curvature's predictions are made of, and the store where they go: its factors may lie elsewhere."""

    pairwise: PairwisePlan
    store: Store

    def __call__(self, threads: int, device: str) -> "Predictor":
        """Load the trained model and the curvature in an actor."""
        return Predictor(self.pairwise.load(threads, device), self.store)


@dataclass(frozen=True)
class Predictor:
    """Predicts what leaving an example out changes."""

    pairwise: Pairwise
    store: Store

    def __call__(self, unit: PredictionUnit) -> Manifest:
        """Compute I[t, i] / n (Eq. 5) of every test input and training example, [M, N], publish and prove."""
        started = time.monotonic()
        lines = [
            torch.cat([self.pairwise.influence(test, train) for train in self.pairwise.trains(unit.trains)], dim=1)
            for test in self.pairwise.tests(unit.tests)
        ]
        predicted = {PREDICTED: torch.cat(lines) / self.pairwise.plan.train_shards[-1].stop}
        path, metadata = run_directory.predictions_file(unit.method), {"method": unit.method}
        proof = Manifest(
            work=f"predictions by {unit.method}",
            digest=unit.digest,
            outputs=(write_tensors(self.store, path, predicted, metadata),),
            seconds=round(time.monotonic() - started, 3),
        )
        publish_manifest(self.store, run_directory.predictions_manifest(unit.method), proof)
        return proof


def _rows(store: Store, table: str, tests: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield a table's rows of some test inputs."""
    for batch in iter_batches(store, run_directory.table(table)):
        yield from batch.filter(pc.is_in(batch["test_index"], value_set=pa.array(tests, pa.int64()))).to_pylist()
