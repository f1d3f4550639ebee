"""The factors stage against dense Kronecker factors and spectra computed example by example."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import load_file

from relatif.pipeline.explaining.stored_curvature import load_curvature
from relatif.pipeline.runs.run import Run
from relatif.schemas import run_directory
from tests.reference.fisher import ekfac_spectrum, kronecker_factors
from tests.reference.softmax import class_gradients, class_output_gradients, fold, probabilities, with_ones
from tests.support.images import CLASSES, PERCEPTRON, SIDE, features, write_images
from tests.support.runs import config, file_bytes, proof, run_named

pytestmark = pytest.mark.usefixtures("local_ray")

TRAINING = 230
ROUNDING = 1e-10
"""Relative to the largest entry: float64 sums of a few hundred terms, in another order."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> dict[str, Run]:
    """One run for each method."""
    out = tmp_path_factory.mktemp("runs")
    settings = ("data.shard_rows=50", "train.tolerance=1e-3")
    return {
        method: run_named(config(data, *settings, f"curvature.method={method}"), out / method, *STAGES)
        for method in ("kfac", "ekfac", "identity")
    }


STAGES = ("train", "factors")


def layer(run: Run) -> dict[str, Any]:
    tensors = load_file(Path(run.store.url) / run_directory.factor_file("linear"))
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float64"}
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def block(run: Run) -> Any:
    state = load_file(Path(run.store.url) / run_directory.CHECKPOINT)
    return fold(state["linear.weight"].numpy(), state["linear.bias"].numpy())


def inputs(run: Run) -> Any:
    from relatif.pipeline.datasets.shards import read_shard

    pixels = [read_shard(run.data, run.dataset, shard).inputs.numpy() for shard in run.train_shards]
    return features(np.concatenate(pixels))


def assert_close(found: Any, expected: Any) -> None:
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= ROUNDING * abs(expected).max()


def test_kfac_factors_are_those_of_the_dense_sums(runs: dict[str, Run]) -> None:
    found, p = layer(runs["kfac"]), probabilities(block(runs["kfac"]), inputs(runs["kfac"]))
    a, b = kronecker_factors(with_ones(inputs(runs["kfac"])), class_output_gradients(p), p)
    q_out, q_in = found["eigenbasis_output"], found["eigenbasis_input"]
    assert_close(q_out.T @ q_out, np.eye(CLASSES))
    assert_close(q_in.T @ q_in, np.eye(SIDE * SIDE + 1))
    for basis, moment in ((q_out, b), (q_in, a)):
        assert_close(basis @ np.diag(np.diag(basis.T @ moment @ basis)) @ basis.T, moment)
    assert_close(found["spectrum"], np.outer(np.diag(q_out.T @ b @ q_out), np.diag(q_in.T @ a @ q_in)))


def test_ekfac_measures_the_spectrum_in_kfacs_basis(runs: dict[str, Run]) -> None:
    found, kfac = layer(runs["ekfac"]), layer(runs["kfac"])
    for side in ("eigenbasis_output", "eigenbasis_input"):
        assert np.array_equal(found[side], kfac[side])
    weights, x = block(runs["ekfac"]), inputs(runs["ekfac"])
    basis = np.kron(found["eigenbasis_output"], found["eigenbasis_input"])
    expected = ekfac_spectrum(class_gradients(weights, x), probabilities(weights, x), basis)
    assert_close(found["spectrum"].reshape(-1), expected)


def test_identity_is_an_empty_spectrum_without_bases(runs: dict[str, Run]) -> None:
    found = layer(runs["identity"])
    assert list(found) == ["spectrum"]
    assert np.array_equal(found["spectrum"], np.zeros((CLASSES, SIDE * SIDE + 1)))


def test_every_layer_has_its_file(data: Path, tmp_path: Path) -> None:
    run = run_named(config(data, task=PERCEPTRON), tmp_path, *STAGES)
    names = ["1.safetensors", "3.safetensors", "coverage.json"]
    assert [output.path for output in proof(run, "factors").outputs] == [f"factors/{name}" for name in names]
    uses = json.loads((tmp_path / "factors" / "coverage.json").read_text())
    assert [(use["name"], use["covered"]) for use in uses] == [
        (f"{layer}.{key}", True) for layer in (1, 3) for key in ("weight", "bias")
    ]
    assert set(file_bytes(tmp_path / "factors")) == {"1.safetensors", "3.safetensors", "coverage.json", "manifest.json"}


def test_a_chosen_layer_alone_is_factored(data: Path, tmp_path: Path) -> None:
    run_named(config(data, "curvature.layers=['3']", task=PERCEPTRON), tmp_path, *STAGES)
    assert set(file_bytes(tmp_path / "factors")) == {"3.safetensors", "coverage.json", "manifest.json"}
    uses = json.loads((tmp_path / "factors" / "coverage.json").read_text())
    assert {use["name"]: use["reason"] for use in uses if not use["covered"]} == {
        "1.weight": "not among curvature.layers",
        "1.bias": "not among curvature.layers",
    }


@pytest.mark.parametrize("kind", ["sampled", "empirical"])
def test_the_fisher_is_the_one_asked_for_and_named(runs: dict[str, Run], data: Path, tmp_path: Path, kind: str) -> None:
    settings = ("data.shard_rows=50", "train.tolerance=1e-3", f"curvature.fisher={kind}")
    run = run_named(config(data, *settings), tmp_path, *STAGES)
    said = {"sampled": "drawn from the model", "empirical": "labels of the training set"}[kind]
    assert said in str(proof(run, "factors").facts["fisher"])
    found, exact = layer(run), layer(runs["kfac"])
    assert_close(found["eigenbasis_input"], exact["eigenbasis_input"])
    assert abs(found["spectrum"] - exact["spectrum"]).max() > 1e-3 * exact["spectrum"].max()


@pytest.mark.parametrize("method", ["kfac", "ekfac"])
def test_factors_serve_any_damping(runs: dict[str, Run], method: str) -> None:
    store = runs[method].store
    curvature = load_curvature(store, ["linear"], damping=0.25)
    assert np.array_equal(curvature.inverse("linear").numpy(), 1 / (layer(runs[method])["spectrum"] + 0.25))
    with safe_open(Path(store.url) / run_directory.factor_file("linear"), "pt") as file:
        assert file.metadata() == {"layer": "linear", "method": method}
    assert proof(runs[method], "factors").facts["method"] == method
