"""Whole runs against dense float64 references: explicit inverses, every pair, Python sets.

N training and M test examples, C classes, P parameters. The tasks and data are a user's own.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from relatif.schemas.methods import METHODS
from tests.reference import scores as reference
from tests.reference.fisher import damped_inverse, ekfac_curvature, fisher, identity_curvature, kfac_curvature
from tests.reference.mlp import MlpPass, autograd_class_gradients, label_gradients, mlp_class_gradients, run_mlp
from tests.support.images import CLASSES, LOGISTIC, PERCEPTRON, ROWWISE, SIDE, features, rowwise, write_images
from tests.support.runs import config, dense, run_named, tables

TRAINING, TESTS, K = 600, 40, 20
RELATIVE = 1e-5
"""Of a score, a norm or, where terms cancel, of |w_t| |w_n|: what the project promises; tables hold float32."""

CASES = [
    (LOGISTIC, "kfac", "predicted"),
    (LOGISTIC, "ekfac", "3"),
    (LOGISTIC, "identity", "predicted"),
    (PERCEPTRON, "kfac", "3"),
    (PERCEPTRON, "ekfac", "true"),
    (ROWWISE, "identity", "predicted"),
    (LOGISTIC, "exact", "predicted"),
    (PERCEPTRON, "exact", "true"),
    (PERCEPTRON, "cg", "predicted"),
]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A finished run, and what its tables should hold: by ``inverse`` numerators, by ``below`` denominators."""

    run: Run
    tables: dict[str, pa.Table]
    class_gradients: dict[str, list[Array]]
    probabilities: dict[str, Array]
    inverse: Array
    below: Array

    def pixels(self, split: Any) -> Array:
        shards = self.run.dataset.shards(split, rows=TRAINING)
        return features(np.concatenate([_read(self.run, shard).inputs.numpy() for shard in shards]))

    def labels(self, split: Any) -> NDArray[np.int64]:
        shards = self.run.dataset.shards(split, rows=TRAINING)
        return np.concatenate([_read(self.run, shard).labels.numpy() for shard in shards])

    @cached_property
    def explained(self) -> NDArray[np.int64]:
        """The labels at which test gradients are taken."""
        wanted = self.run.config.score.explained_label
        chosen = {"true": self.labels("test"), "predicted": self.probabilities["test"].argmax(axis=1)}
        return chosen[wanted] if isinstance(wanted, str) else np.full(TESTS, wanted)

    @cached_property
    def train_gradients(self) -> Array:
        return label_gradients(self.class_gradients["train"], self.labels("train"))

    @cached_property
    def test_gradients(self) -> Array:
        return label_gradients(self.class_gradients["test"], self.explained)

    @cached_property
    def matrices(self) -> dict[str, Array]:
        """Every method's scores, [M, N]."""
        plain = reference.influence(self.inverse, self.test_gradients, self.train_gradients)
        return {
            "influence": plain,
            "theta_relatif": plain / reference.theta_norm(self.below, self.train_gradients),
            "l_relatif": plain / np.sqrt(reference.self_influence(self.below, self.train_gradients)),
            "nearest_neighbour": reference.nearest_neighbour(self.pixels("test"), self.pixels("train")),
            "gradient_cosine": reference.gradient_cosine(self.test_gradients, self.train_gradients),
            "negative_influence": -plain,
        }

    def top(self, method: str) -> tuple[NDArray[np.int64], Array]:
        """Training indices and scores of the table top_k, [M, K] each."""
        table = self.tables["top_k"].filter(pa.compute.equal(self.tables["top_k"]["method"], method))
        table = table.sort_by([("test_index", "ascending"), ("rank", "ascending")])
        assert table["rank"].to_pylist() == list(range(1, K + 1)) * TESTS
        assert table["test_index"].to_pylist() == [test for test in range(TESTS) for _ in range(K)]
        columns = (table[name].to_numpy().reshape(TESTS, K) for name in ("train_index", "score"))
        indices, scores = columns
        return indices, scores.astype(np.float64)


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join([case[0].partition(":")[2], *case[1:]]))
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> Reference:
    task, method, explained = request.param
    folder = tmp_path_factory.mktemp("reference")
    data = write_images(folder / "data", train=TRAINING, test=TESTS)
    settings = (
        f"curvature.method={method}",
        f"score.explained_label={explained}",
        f"score.methods={list(METHODS)}",
        f"score.top_k={K}",
        "score.write_scores=true",
        "curvature.cg_tolerance=1e-8",
        "score.unit_rows=200",
        "data.shard_rows=100",
        "cluster.workers=2",
        "cluster.threads_per_worker=1",
    )
    run = run_named(config(data, *settings, task=task), folder / "run")
    return _reference(run, folder / "run", method)


def _reference(run: Run, out: Path, method: str) -> Reference:
    state = {name: value.double() for name, value in load_file(out / run_directory.CHECKPOINT).items()}
    empty = Reference(run, tables(out), {}, {}, np.zeros((0, 0)), np.zeros((0, 0)))
    gradients, probabilities, passes = {}, {}, {}
    for split in ("train", "test"):
        if run.config.task == ROWWISE:
            gradients[split], probabilities[split] = _by_autograd(state, empty.pixels(split))
        else:
            layers = [(state[f"{name}weight"].numpy(), state[f"{name}bias"].numpy()) for name in _layer_names(state)]
            passes[split] = run_mlp(layers, empty.pixels(split), activation="tanh")
            gradients[split], probabilities[split] = mlp_class_gradients(passes[split]), passes[split].probabilities
    made = Reference(run, empty.tables, gradients, probabilities, empty.inverse, empty.below)
    above, below = {"cg": ("exact", "kfac")}.get(method, (method, method))
    inverses = {name: _inverse(made, name, passes.get("train")) for name in (above, below)}
    return replace(made, inverse=inverses[above], below=inverses[below])


def _inverse(found: Reference, method: str, passed: MlpPass | None) -> Array:
    """Return (H + lambda I)^-1 of the training set."""
    gradients, damping = found.class_gradients["train"], found.run.config.curvature.damping
    if method == "identity":
        return damped_inverse(identity_curvature(sum(block.shape[2] for block in gradients)), 1.0)
    assert passed is not None
    if method == "exact":
        return damped_inverse(fisher(np.concatenate(gradients, axis=2), passed.probabilities), damping)
    factors = (passed.inputs, passed.class_deltas)
    if method == "kfac":
        return damped_inverse(kfac_curvature(*factors, passed.probabilities), damping)
    return damped_inverse(ekfac_curvature(*factors, gradients, passed.probabilities), damping)


def _layer_names(state: dict[str, torch.Tensor]) -> list[str]:
    return sorted(name.removesuffix("weight") for name in state if name.endswith("weight"))


def _by_autograd(state: dict[str, torch.Tensor], pixels: Array) -> tuple[list[Array], Array]:
    model = rowwise().build_model().double().eval()
    model.load_state_dict(state)
    inputs = torch.from_numpy(pixels).reshape(-1, SIDE, SIDE)
    with torch.no_grad():
        probabilities = model(inputs).softmax(dim=1).numpy()
    return autograd_class_gradients(model, inputs, CLASSES), probabilities


def _read(run: Run, shard: Any) -> Any:
    return read_shard(run.data, run.dataset, shard)


def assert_close(found: Any, expected: Array) -> None:
    np.testing.assert_allclose(np.asarray(found, np.float64), expected, rtol=RELATIVE, atol=0)


def test_training_examples(found: Reference) -> None:
    table, p, labels = found.tables["train_examples"], found.probabilities["train"], found.labels("train")
    assert table["train_index"].to_pylist() == list(range(TRAINING))
    assert table["label"].to_pylist() == labels.tolist()
    assert table["predicted_label"].to_pylist() == p.argmax(axis=1).tolist()
    assert_close(table["probability"], p[np.arange(TRAINING), labels])
    assert_close(table["loss"], -np.log(p[np.arange(TRAINING), labels]))
    assert_close(table["gradient_norm"], np.linalg.norm(found.train_gradients, axis=1))
    assert_close(table["theta_norm"], reference.theta_norm(found.below, found.train_gradients))
    assert_close(table["self_influence"], reference.self_influence(found.below, found.train_gradients))


def test_test_examples(found: Reference) -> None:
    table, p, explained = found.tables["test_examples"], found.probabilities["test"], found.explained
    assert table["test_index"].to_pylist() == list(range(TESTS))
    assert table["label"].to_pylist() == found.labels("test").tolist()
    assert table["predicted_label"].to_pylist() == p.argmax(axis=1).tolist()
    assert table["explained_label"].to_pylist() == explained.tolist()
    assert_close(table["probability"], p[np.arange(TESTS), explained])
    assert_close(table["loss"], -np.log(p[np.arange(TESTS), explained]))
    assert_close(table["self_influence"], reference.self_influence(found.inverse, found.test_gradients))


@pytest.mark.parametrize("method", METHODS)
def test_the_most_positive_scores_are_kept_in_order(found: Reference, method: str) -> None:
    matrix = found.matrices[method]
    indices, scores = found.top(method)
    best, best_scores = reference.top_k(matrix, K)
    ours = np.take_along_axis(matrix, indices, axis=1)
    assert_close(scores, ours)
    # Where the reference's scores are closer than the tolerance, either may come first.
    assert_close(ours, best_scores)
    assert all(len(set(row)) == K for row in indices.tolist())
    gaps = -np.diff(np.sort(matrix, axis=1)[:, ::-1][:, : K + 1], axis=1)
    clear = gaps > 2 * RELATIVE * abs(best_scores)
    clear[:, 1:] &= clear[:, :-1]
    assert clear.mean() > 0.5, "most ranks must be told apart"
    assert np.array_equal(indices[clear], best[clear])


def test_the_dense_matrix_and_its_relative_forms(found: Reference) -> None:
    matrix = dense(found.tables["scores"], TESTS, TRAINING).astype(np.float64)
    w_test = np.sqrt(reference.self_influence(found.inverse, found.test_gradients))
    w_train = np.sqrt(reference.self_influence(found.inverse, found.train_gradients))
    allowed = RELATIVE * np.outer(w_test, w_train)
    assert (abs(matrix - found.matrices["influence"]) <= allowed).all()
    examples = found.tables["train_examples"]
    for method, column, power in (("theta_relatif", "theta_norm", 1), ("l_relatif", "self_influence", 0.5)):
        divisor = examples[column].to_numpy().astype(np.float64) ** power
        assert (abs(matrix / divisor - found.matrices[method]) <= 2 * allowed / divisor).all(), method


def test_statistics_by_sets(found: Reference) -> None:
    probability = found.tables["train_examples"]["probability"].to_numpy()
    tops = {method: found.top(method)[0] for method in METHODS}
    rows = found.tables["influence_sets"].to_pylist()
    assert [(row["method"], row["k"]) for row in rows] == [(method, k) for method in METHODS for k in (1, 5)]
    for row in rows:
        members = reference.influence_set(tops[row["method"]], row["k"])
        assert (row["test_count"], row["cardinality"]) == (TESTS, len(members))
        assert row["cardinality_ratio"] == reference.cardinality_ratio(tops[row["method"]], row["k"])
        mean, std = reference.probability_mean_std(members, probability)
        assert row["probability_mean"] == pytest.approx(mean, rel=1e-12)
        assert row["probability_std"] == pytest.approx(std, rel=1e-9)
    overlaps = found.tables["overlap"].to_pylist()
    pairs = list(combinations(METHODS, 2))
    assert [(row["method_a"], row["method_b"]) for row in overlaps] == [pair for pair in pairs for _ in range(4)]
    for row in overlaps:
        expected = reference.overlap(tops[row["method_a"]], tops[row["method_b"]], row["k"])
        assert row["overlap"] == pytest.approx(expected, rel=1e-12)
