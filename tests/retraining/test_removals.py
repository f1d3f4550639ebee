"""A removal as a unit: exactly no change without a removal, equal bits for any threads, any task from scratch.

Ridge regression, a task of a user's own, is refitted in closed form: what influence predicts is measured against that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.devices import Worker
from relatif.pipeline.retraining.removals import RemovalPlan, RemovalUnit, parameter_change
from relatif.pipeline.retraining.retraining import STATE
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.storage.tensors import read_tensors
from relatif.pipeline.tasks.logistic import LogisticRegression
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas import run_directory
from relatif.schemas.config import TrainConfig
from tests.curvature.test_model import Gaussian
from tests.support.images import logistic
from tests.support.retrained import plan_of, start, trained_source
from tests.support.runs import config, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

RIDGE = "tests.retraining.test_removals:ridge"
ROWS, TESTS, WIDTH, LEVELS = 400, 20, 5, 6
DECAY = 0.05
CLOSED_FORM = 1e-10
"""Float64 on both sides, of losses of order 1."""


@dataclass(frozen=True)
class Normal(Gaussian):
    """Class numbers are normal around the only output, with variance 1."""

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().losses(outputs, targets[:, None])

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().gradient(outputs, targets[:, None])

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        for targets, weights in super().expectation(outputs):
            yield targets[:, 0], weights

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        return targets if choice == "true" else outputs[:, 0].round().long()

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        return {"label": targets, "explained_label": explained}


def ridge() -> Task:
    """Return linear regression on class numbers with the loss of a normal distribution of variance 1, in float64."""
    build = partial(nn.Linear, WIDTH, 1)
    return Task("ridge", build_model=build, model_inputs=Tensor.double, train=_closed_form, likelihood=Normal())


def _closed_form(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    batches = list(data.batches(lambda batch: (batch.inputs.double().numpy(), batch.labels.double().numpy())))
    theta = _fit(*(np.concatenate(parts) for parts in zip(*batches, strict=True)), data.rows, config.weight_decay)
    return {"weight": torch.from_numpy(theta[None, :-1].copy()), "bias": torch.from_numpy(theta[-1:].copy())}


def _fit(inputs: np.ndarray, targets: np.ndarray, count: int, decay: float) -> np.ndarray:
    """Minimize ``1 / count sum (theta' a - y)^2 / 2 + decay / 2 ||theta||^2``."""
    folded = np.column_stack([inputs, np.ones(len(inputs))])
    return np.linalg.solve(folded.T @ folded / count + decay * np.eye(WIDTH + 1), folded.T @ targets / count)


def write_levels(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(1)
    inputs = generator.standard_normal((ROWS + TESTS, WIDTH)).astype(np.float32)
    values = inputs @ generator.standard_normal(WIDTH) + 2.5 + generator.standard_normal(ROWS + TESTS)
    labels = np.clip(np.rint(values), 0, LEVELS - 1).astype(np.int64)
    subject = Subject(
        name="levels",
        meaning="made-up levels",
        input=InputDescription(column="features", dtype="float32", shape=(WIDTH,)),
        class_names=tuple(map(str, range(LEVELS))),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    splits = {"train": (inputs[:ROWS], labels[:ROWS]), "test": (inputs[ROWS:], labels[ROWS:])}
    write_dataset(open_store(folder), subject, splits, rows_per_group=100, rows_per_file=400)
    return splits


def test_ridge_regression_is_refitted_in_closed_form(tmp_path: Path) -> None:
    splits = write_levels(tmp_path / "data")
    settings = (
        "data.shard_rows=100",
        f"train.weight_decay={DECAY}",
        "curvature.method=exact",
        "curvature.exact_matrix=hessian",
        f"curvature.damping={DECAY}",
        "score.explained_label=true",
        "score.top_k=3",
        f"leave_one_out.test_count={TESTS}",
    )
    made = config(tmp_path / "data", *settings, task=RIDGE)
    run_named(made, tmp_path / "run", "train", "factors", "score", "leave_one_out")
    found = tables(tmp_path / "run")["leave_one_out"].to_pylist()

    (inputs, targets), (test_inputs, test_targets) = splits["train"], splits["test"]
    folded, test_folded = (np.column_stack([part, np.ones(len(part))]).astype(float) for part in (inputs, test_inputs))
    theta = _fit(inputs.astype(float), targets, ROWS, DECAY)
    for row in found:
        kept = np.delete(np.arange(ROWS), row["train_index"])
        without = _fit(inputs[kept].astype(float), targets[kept], ROWS, DECAY)  # the other weights stay 1 / n
        test, target = test_folded[row["test_index"]], test_targets[row["test_index"]]
        change = ((test @ without - target) ** 2 - (test @ theta - target) ** 2) / 2
        of_all = ((folded @ without - targets) ** 2 - (folded @ theta - targets) ** 2) / 2
        assert row["test_loss_change"] == pytest.approx(change, abs=CLOSED_FORM)
        assert row["parameter_change"] == pytest.approx(np.linalg.norm(without - theta), abs=CLOSED_FORM)
        assert row["train_loss_change"] == pytest.approx(np.linalg.norm(of_all), abs=CLOSED_FORM)
    predicted, actual = (
        np.array([row[name] for row in found]) for name in ("predicted_test_loss_change", "test_loss_change")
    )
    assert np.corrcoef(predicted, actual)[0, 1] >= 0.99
    # The exact change is the predicted one, raised by the example's own share h of the curvature, and a square.
    curvature = folded.T @ folded / ROWS + DECAY * np.eye(WIDTH + 1)
    left_out, explained = (folded[[row["train_index"] for row in found]], [row["test_index"] for row in found])
    share = np.einsum("ni,ij,nj->n", left_out, np.linalg.inv(curvature), left_out) / ROWS
    residual = test_folded[explained] @ theta - test_targets[explained]
    linear = predicted / (1 - share)
    np.testing.assert_allclose(linear + (linear / residual) ** 2 / 2, actual, atol=CLOSED_FORM)
    best = np.array([row["method"] == "influence" for row in found])
    assert (actual[best] > 0).all(), "positive influence is helpful: leaving out raises the loss"
    assert (predicted[best] > 0).all()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Source:
    return trained_source(tmp_path_factory.mktemp("trained"))


def test_a_removal_is_the_same_bit_by_bit_for_any_threads_and_in_any_order(trained: Source) -> None:
    plan, found = plan_of(trained), []
    for threads, rows in ((1, (7, 3)), (2, (3, 7)), (3, (7,))):
        worker = Worker(threads)
        receipts = start(plan, worker)
        unit = RemovalPlan(plan)(worker)
        proofs = {row: unit(RemovalUnit(row, "digest")) for row in rows}
        found.append([receipt.sha256 for receipt in (*receipts, *proofs[7].outputs)])
    assert found[0] == found[1] == found[2]
    tensors = read_tensors(trained.store, run_directory.retraining_file(7))
    assert {value.dtype for value in tensors.values()} == {torch.float64}
    assert {name for name in tensors if not name.startswith(STATE)} == {"parameter_change", "train_loss_change"}
    assert float(tensors["parameter_change"]) > 0


def test_the_change_of_parameters_is_that_of_the_trainable_ones() -> None:
    class Frozen(LogisticRegression):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.linear.bias.requires_grad_(False)

    task = Task("frozen", 2, Frozen, Tensor.float, logistic().loss, logistic().train)
    before = {"linear.weight": torch.zeros(2, 2), "linear.bias": torch.zeros(2)}
    after = {"linear.weight": torch.tensor([[3.0, 0], [0, 4]]), "linear.bias": torch.ones(2)}
    assert float(parameter_change(task, after, before)) == 5.0
