"""The curvature as it lies in a run: what is missing is told, and what is not positive definite is refused."""

from pathlib import Path

import pytest
import torch

from relatif.pipeline.curvature.eigen import DenseBasis, KroneckerBasis, LayerCurvature
from relatif.pipeline.explaining.stored_curvature import (
    load_curvature,
    load_joint_curvature,
    write_joint,
    write_layer,
)
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import ModelError, NumericalError, StorageError
from tests.support.proofs import prove_files


def test_missing_factors_are_told(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(StorageError, match=r"expected a file at .*factors/manifest\.json"):
        load_curvature(store, ["linear"], damping=1.0)
    prove_files(
        store, run_directory.FACTORS_MANIFEST, [write_tensors(store, run_directory.factor_file("linear"), {}, {})]
    )
    with pytest.raises(ModelError, match=r"expected 'spectrum' for layer 'linear', found .*run stage factors again"):
        load_curvature(store, ["linear"], damping=1.0)


def test_layers_come_back_as_they_were_written_with_a_damping_of_ones_choice(tmp_path: Path) -> None:
    store, generator = open_store(tmp_path), torch.Generator().manual_seed(0)
    output, input_ = (torch.randn(size, size, generator=generator, dtype=torch.float64) for size in (2, 3))
    spectrum = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    written = [
        write_layer(store, "a", LayerCurvature(KroneckerBasis(output, input_), spectrum), "kfac"),
        write_layer(store, "b", LayerCurvature(None, spectrum), "identity"),
        write_layer(store, "c", LayerCurvature(KroneckerBasis(output, None), spectrum), "kfac"),
    ]
    prove_files(store, run_directory.FACTORS_MANIFEST, written)

    found = load_curvature(store, ["a", "b", "c"], damping=0.25)

    basis = found.blocks["a"].basis
    assert isinstance(basis, KroneckerBasis)
    diagonal = found.blocks["c"].basis
    assert isinstance(diagonal, KroneckerBasis)
    for one, other in ((basis.output, output), (basis.input, input_), (diagonal.output, output)):
        assert one is not None
        assert torch.equal(one, other)
    assert diagonal.input is None
    assert found.blocks["b"].basis is None
    assert torch.equal(found.inverse("a"), 1 / (spectrum + 0.25))


def test_a_joint_block_that_the_damping_does_not_make_positive_is_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    basis, spectrum = DenseBasis(torch.eye(2, dtype=torch.float64)), torch.tensor([-0.5, 1.0]).double()
    prove_files(store, run_directory.FACTORS_MANIFEST, [write_joint(store, basis, spectrum, "hessian")])
    assert bool((load_joint_curvature(store, 0.6).inverse("joint") > 0).all())
    with pytest.raises(NumericalError, match=r"positive definite, found -0\.5 as the smallest eigenvalue"):
        load_joint_curvature(store, 0.4)


def test_factors_that_are_not_those_that_were_proven_are_refused_by_name(tmp_path: Path) -> None:
    store, spectrum = open_store(tmp_path), torch.rand(2, 3, dtype=torch.float64)
    prove_files(
        store, run_directory.FACTORS_MANIFEST, [write_layer(store, "a", LayerCurvature(None, spectrum), "identity")]
    )
    write_layer(store, "a", LayerCurvature(None, spectrum + 1), "identity")
    with pytest.raises(StorageError, match=r"damage: .*factors/a\.safetensors has other contents than were written"):
        load_curvature(store, ["a"], damping=1.0)
