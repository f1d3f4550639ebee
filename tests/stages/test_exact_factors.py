"""The exact curvature's stage against dense sums: any cut into groups, refusals, files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import JOINT
from relatif.pipeline.curvature.exact import strips_of
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.explaining.stored_curvature import load_eigen_form, load_joint_curvature
from relatif.pipeline.runs.run import Run
from relatif.pipeline.stages import exact_factors
from relatif.pipeline.stages.exact_factors import StripSums, strip_groups
from relatif.pipeline.storage.tensors import read_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import NumericalError
from tests.reference.fisher import fisher
from tests.reference.softmax import class_gradients, fold, probabilities
from tests.support.images import PERCEPTRON, features, write_images
from tests.support.runs import config, proof, run_named

TRAINING = 230
STAGES = ("train", "factors")
BASE = ("data.shard_rows=50", "train.tolerance=1e-3", "curvature.method=exact")
ROUNDING = 1e-10
"""Relative to the largest entry: float64 sums of a few hundred terms, in another order."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("data"), train=TRAINING)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, data: Path, local_ray: None) -> Run:
    return run_named(config(data, *BASE), tmp_path_factory.mktemp("runs") / "exact", *STAGES)


def test_the_eigen_form_is_that_of_the_dense_fisher(run: Run) -> None:
    from relatif.pipeline.datasets.shards import read_shard

    state = load_file(Path(run.store.url) / run_directory.CHECKPOINT)
    block = fold(state["linear.weight"].numpy(), state["linear.bias"].numpy())
    pixels = [read_shard(run.data, run.dataset, shard).inputs.numpy() for shard in run.train_shards]
    inputs = features(np.concatenate(pixels))
    expected = fisher(class_gradients(block, inputs), probabilities(block, inputs))

    found = load_joint_curvature(run.store, 1.0).blocks[JOINT]

    basis, spectrum = found.basis.vectors.numpy(), found.spectrum.numpy()[0]  # type: ignore[union-attr]
    assert spectrum.min() >= 0
    for made, wanted in ((basis @ np.diag(spectrum) @ basis.T, expected), (basis.T @ basis, np.eye(len(basis)))):
        assert abs(made - wanted).max() <= ROUNDING * abs(wanted).max()


def test_its_proof_names_the_method_and_nothing_else_is_left(run: Run) -> None:
    assert [output.path for output in proof(run, "factors").outputs] == [
        "factors/joint.safetensors",
        "factors/coverage.json",
    ]
    assert proof(run, "factors").facts == {
        "method": "exact",
        "fisher": "exact expectation over the model's labels, inputs of the training set",
    }
    assert not (Path(run.store.url) / run_directory.FACTORS_WORK).exists()


@pytest.mark.parametrize("count", [1, 3])
def test_how_strips_are_grouped_changes_no_bit(run: Run, count: int) -> None:
    sums = StripSums(run.source, run.train_shards, run.config.curvature, "cpu")
    rows = strips_of(coverage_of(run.task, None))
    whole: dict[str, torch.Tensor] = {}
    for place in range(count):
        sums(rows[place::count], f"work/rows-{count}-{place}")
        whole |= read_tensors(run.store, f"work/rows-{count}-{place}")
    sums(rows, "work/rows")
    together = read_tensors(run.store, "work/rows")
    assert whole.keys() == together.keys()
    assert all(torch.equal(whole[name], together[name]) for name in whole)


def test_groups_hold_every_row_once_within_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(30, 20), torch.nn.Linear(20, 10))
    covered = coverage(model)
    for cpus, group_bytes, expected in ((1, 2**30, 1), (4, 2**30, 4), (2, 4 * 830**2 // 7, 8), (99, 2**30, 30)):
        monkeypatch.setattr(exact_factors, "GROUP_BYTES", group_bytes)
        groups = strip_groups(covered, cpus)
        assert sorted(row for group in groups for row in group) == sorted(strips_of(covered))
        assert len(groups) == expected


def test_of_a_linear_model_the_hessian_is_the_fisher(run: Run, data: Path, tmp_path: Path) -> None:
    hessian = run_named(config(data, *BASE, "curvature.exact_matrix=hessian"), tmp_path, *STAGES)
    found, expected = (load_joint_curvature(each.store, 1.0).blocks[JOINT].spectrum for each in (hessian, run))
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING * float(expected.max()))
    assert proof(hessian, "factors").facts["fisher"] == "none: Hessian of the mean training loss"


@pytest.mark.usefixtures("local_ray")
def test_an_indefinite_hessian_is_refused_with_the_damping_that_suffices(data: Path, tmp_path: Path) -> None:
    settings = (*BASE, "curvature.exact_matrix=hessian")
    with pytest.raises(NumericalError, match=r"positive definite, found -\S+ as the smallest eigenvalue") as refused:
        run_named(config(data, *settings, task=PERCEPTRON), tmp_path / "refused", *STAGES)
    assert not (tmp_path / "refused" / run_directory.FACTORS_MANIFEST).exists()

    enough = float(str(refused.value).rpartition("above ")[2].split(",")[0]) * 1.01
    made = config(data, *settings, f"curvature.damping={enough}", task=PERCEPTRON)
    run = run_named(made, tmp_path / "enough", *STAGES)
    assert bool((load_eigen_form(run.source, run.config.curvature).inverse("joint") > 0).all())
    with pytest.raises(NumericalError, match="positive definite"):
        load_joint_curvature(run.store, enough / 2)


def test_the_hessian_goes_with_exact_alone() -> None:
    with pytest.raises(ValueError, match=r"goes with curvature\.method = exact, found ekfac"):
        CurvatureConfig(method="ekfac", exact_matrix="hessian")
