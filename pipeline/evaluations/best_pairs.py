"""Which pairs of test input and training example leave-one-out looks at, and what influence predicts for each.

Axes: M chosen test inputs, N training examples that are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.chosen_pairs import ChosenPairs, ChosenPairsPlan
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.finished_tables import rows_by_index
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.tables import TEST_EXAMPLES, TOP_K

PREDICTED, CORRECTED = "predicted_test_loss_change", "corrected_test_loss_change"


@dataclass(frozen=True)
class Pair:
    """A method's best training example for a test input."""

    method: str
    test_index: int
    train_index: int


def best_pairs(tables: Store, tests: Sequence[int], methods: Sequence[str]) -> list[Pair]:
    """Return each method's first training example for some test inputs, by test input and method, from the tables.

    Raises DataError where the tables lack one.
    """
    explained = rows_by_index(tables, TEST_EXAMPLES.name, "test_index", tests)
    known = {row["test_index"] for row in explained}
    ranked = (row for row in rows_by_index(tables, TOP_K.name, "test_index", tests) if row["rank"] == 1)
    best = {(row["test_index"], row["method"]): row["train_index"] for row in ranked}
    missing = [(test, method) for test in tests for method in methods if (test, method) not in best]
    if missing or known != set(tests):
        raise DataError(
            f"expected an explanation by every method of {len(tests)} test inputs in {tables.describe()}, found "
            f"{len(missing)} missing; run the score stage again"
        )
    return [Pair(method, test, best[test, method]) for test in tests for method in methods]


@dataclass(frozen=True)
class PredictionUnit:
    """All chosen test inputs against all training examples that are left out, both in rising order, by a curvature.

    ``pairs`` of a test input and a training example are those whose change is corrected.
    """

    method: str
    tests: tuple[int, ...]
    trains: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"predictions by {self.method}"

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.predictions_manifest(self.method)


@dataclass(frozen=True)
class PredictionPlan:
    """What one curvature's predictions need, and the store that takes them; its factors may lie in another one."""

    pairs: ChosenPairsPlan
    store: Store

    def __call__(self, worker: Worker) -> "Predictor":
        """Load the trained model and the curvature in an actor."""
        return Predictor(self.pairs.load(worker), self.store)


@dataclass(frozen=True)
class Predictor:
    """Predicts what leaving an example out changes."""

    pairs: ChosenPairs
    store: Store

    def __call__(self, unit: PredictionUnit) -> Made:
        """Compute I[t, i] / n (Eq. 5) of every test input and training example, [M, N], and write it.

        The corrected change of the unit's pairs is beside it, [M, N]; NaN for other pairs, and where there is none.
        """
        lines = [
            torch.cat([self.pairs.influence(queries, some) for some in self.pairs.training(unit.trains)], dim=1)
            for queries in self.pairs.queries(unit.tests)
        ]
        predicted = torch.cat(lines) / self.pairs.plan.train_shards[-1].stop
        corrected = torch.full_like(predicted, float("nan"))
        for (test, train), change in self.pairs.corrected(unit.pairs).items():
            corrected[unit.tests.index(test), unit.trains.index(train)] = change
        path, metadata = run_directory.predictions_file(unit.method), {"method": unit.method}
        tensors = {PREDICTED: predicted, CORRECTED: corrected}
        return Made((write_tensors(self.store, path, tensors, metadata),))
