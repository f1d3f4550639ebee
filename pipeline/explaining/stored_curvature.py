"""The curvature in eigen form, written to a run's directory and read from it.

Axes: O outputs, I inputs of a layer (bias folded), P parameters side by side.
"""

from collections.abc import Sequence

import torch

from relatif.pipeline.curvature.eigen import (
    JOINT,
    Curvature,
    DenseBasis,
    KroneckerBasis,
    LayerCurvature,
    check_positive,
)
from relatif.pipeline.devices import CPU
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ModelError
from relatif.schemas.manifest import FileReceipt

OUTPUT_BASIS = "eigenbasis_output"
INPUT_BASIS = "eigenbasis_input"
EIGENBASIS = "eigenbasis"
SPECTRUM = "spectrum"


def write_layer(store: Store, name: str, layer: LayerCurvature, method: str) -> FileReceipt:
    """Write one layer's bases and spectrum."""
    tensors = {SPECTRUM: layer.spectrum}
    if isinstance(layer.basis, KroneckerBasis):
        # A side without a basis has the identity: nothing is stored for it.
        sides = {OUTPUT_BASIS: layer.basis.output, INPUT_BASIS: layer.basis.input}
        tensors |= {key: basis for key, basis in sides.items() if basis is not None}
    return write_tensors(store, run_directory.factor_file(name), tensors, {"layer": name, "method": method})


def write_joint(store: Store, basis: DenseBasis, spectrum: torch.Tensor, matrix: str) -> FileReceipt:
    """Write the one block, eigenvectors [P, P] and spectrum [P], of a curvature that couples all layers."""
    tensors = {EIGENBASIS: basis.vectors, SPECTRUM: spectrum}
    return write_tensors(store, run_directory.JOINT_FACTORS, tensors, {"method": "exact", "matrix": matrix})


def load_curvature(store: Store, names: Sequence[str], damping: float) -> Curvature:
    """Return the curvature in ``store`` of the layers ``names``, with any damping: factors are stored without one.

    Raises StorageError where a file is missing, ModelError where it holds no spectrum.
    """
    layers = {}
    for name in names:
        tensors = read_proven_tensors(store, run_directory.factor_file(name), run_directory.FACTORS_MANIFEST)
        if SPECTRUM not in tensors:
            raise ModelError(
                f"expected {SPECTRUM!r} for layer {name!r}, found {sorted(tensors)}; run stage factors again"
            )
        sides = tensors.get(OUTPUT_BASIS), tensors.get(INPUT_BASIS)
        basis = None if all(side is None for side in sides) else KroneckerBasis(*sides)
        layers[name] = LayerCurvature(basis, tensors[SPECTRUM])
    return Curvature(layers, damping)


def load_joint_curvature(store: Store, damping: float) -> Curvature:
    """Return the curvature that couples all layers; NumericalError where H + lambda I is not positive definite."""
    tensors = read_proven_tensors(store, run_directory.JOINT_FACTORS, run_directory.FACTORS_MANIFEST)
    curvature = Curvature({JOINT: LayerCurvature(DenseBasis(tensors[EIGENBASIS]), tensors[SPECTRUM][None])}, damping)
    check_positive(curvature)
    return curvature


def load_eigen_form(source: Source, config: CurvatureConfig, device: torch.device | str = CPU) -> Curvature:
    """Return the curvature in eigen form that the settings ask for, with its damping.

    Raises as ``load_curvature`` and ``load_joint_curvature`` do.
    """
    if config.eigen_method == "exact":
        return load_joint_curvature(source.store, config.eigen_damping).to(device)
    names = tuple(coverage_of(source.load_task(), source.layers, source.exclude).blocks)
    return load_curvature(source.store, names, config.eigen_damping).to(device)
