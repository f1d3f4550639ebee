"""Training examples of which the model is almost certain: norms and scores against a reference without differences.

N training and M test examples of 6 numbers, 3 classes, one linear layer with the exact curvature.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task, TrainingSet, cross_entropy
from relatif.schemas.config import TrainConfig
from tests.support.runs import config, run_named, tables

pytestmark = pytest.mark.usefixtures("local_ray")

ROWS, TESTS, FEATURES, CLASSES = 120, 30, 6, 3
SCALE, DAMPING = 1.5, 1e-3
DIGITS = 1e-6
"""Relative: columns and scores are float32."""

Array = NDArray[np.float64]


def certain() -> Task:
    """Return a linear model whose weights are the classes' means, as a model that was trained elsewhere."""
    return Task("certain", CLASSES, _linear, Tensor.float, cross_entropy, _by_means)


def _linear() -> nn.Module:
    return nn.Linear(FEATURES, CLASSES)


def _by_means(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    parts = list(data.batches(lambda batch: (batch.inputs, batch.labels)))
    inputs, labels = (torch.cat([part[place] for part in parts]) for place in (0, 1))
    means = torch.stack([inputs[labels == label].mean(dim=0) for label in range(CLASSES)])
    return {"weight": SCALE * means, "bias": -SCALE * means.square().sum(dim=1) / 2}


def write(folder: Path) -> dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]]:
    chance = np.random.default_rng(3)
    centres = 1.7 * chance.standard_normal((CLASSES, FEATURES))
    splits = {}
    for split, rows in (("train", ROWS), ("test", TESTS)):
        labels = chance.integers(0, CLASSES, rows)
        splits[split] = ((centres[labels] + chance.standard_normal((rows, FEATURES))).astype(np.float32), labels)
    subject = Subject(
        name="clusters",
        meaning="made-up clusters",
        input=InputDescription(column="x", dtype="float32", shape=(FEATURES,)),
        class_names=tuple("abc"),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    write_dataset(open_store(folder), subject, splits, rows_per_group=60, rows_per_file=120)
    return splits


def probabilities(folded: Array, theta: Array) -> Array:
    logits = folded @ theta.T
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def gradients(folded: Array, made: Array, labels: NDArray[np.int64]) -> Array:
    """The gradients [N, P]: the label's error is minus the sum of the others."""
    errors = made.copy()
    rows = np.arange(len(labels))
    errors[rows, labels] = 0
    errors[rows, labels] = -errors.sum(axis=1)
    return (errors[:, :, None] * folded[:, None, :]).reshape(len(labels), -1)


def test_norms_and_scores_keep_their_digits(tmp_path: Path) -> None:
    splits = write(tmp_path / "data")
    settings = ("curvature.method=exact", f"curvature.damping={DAMPING}", "score.top_k=1", "data.shard_rows=60")
    run = run_named(
        config(tmp_path / "data", *settings, task="tests.stages.test_confident:certain"),
        tmp_path / "run",
        "train",
        "factors",
        "score",
    )
    state = run.source.load_model(run.task).state_dict()
    theta = torch.cat([state["weight"], state["bias"][:, None]], dim=1).numpy()
    (folded, labels), (test, _) = (
        (np.column_stack([inputs, np.ones(len(inputs))]).astype(np.float64), kept) for inputs, kept in splits.values()
    )
    made, test_made = probabilities(folded, theta), probabilities(test, theta)
    mine, theirs = gradients(folded, made, labels), gradients(test, test_made, test_made.argmax(axis=1))
    curvature = sum(
        (each * made[:, label, None]).T @ each
        for label in range(CLASSES)
        for each in [gradients(folded, made, np.full(ROWS, label))]
    )
    inverse = np.linalg.inv(np.asarray(curvature) / ROWS + DAMPING * np.eye(theta.size))
    solved = mine @ inverse
    theta_norm, own = np.linalg.norm(solved, axis=1), (solved * mine).sum(axis=1)

    found = tables(tmp_path / "run")
    train = found["train_examples"]
    assert (np.abs(mine).max(axis=1) < 1e-15).sum() > 20, "many are certain beyond the digits of 1 - p"
    others = np.where(np.arange(CLASSES) == labels[:, None], 0, made).sum(axis=1)
    columns = {
        "gradient_norm": np.linalg.norm(mine, axis=1),
        "theta_norm": theta_norm,
        "self_influence": own,
        "loss": -np.log1p(-others),
    }
    for name, expected in columns.items():
        whole = expected > np.finfo(np.float32).tiny  # smaller numbers have fewer digits in float32
        assert whole.sum() > ROWS / 2
        np.testing.assert_allclose(train[name].to_numpy()[whole], expected[whole], rtol=DIGITS)
    scores = theirs @ solved.T
    for name, values in (
        ("influence", scores), ("theta_relatif", scores / theta_norm), ("l_relatif", scores / np.sqrt(own))
    ):  # fmt: skip
        rows = [row for row in found["top_k"].to_pylist() if row["method"] == name]
        assert [row["train_index"] for row in rows] == values.argmax(axis=1).tolist()
        np.testing.assert_allclose([row["score"] for row in rows], values.max(axis=1), rtol=DIGITS)
