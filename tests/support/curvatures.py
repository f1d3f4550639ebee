"""Curvatures and gradients of small models, made with the pipeline's own functions, and as dense matrices."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import (
    JOINT,
    Curvature,
    DenseBasis,
    KroneckerBasis,
    LayerCurvature,
    identity_curvature,
)
from relatif.pipeline.curvature.exact import fisher_rows, joint_eigen, joint_matrix, rows_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.gradients import LayerGradients
from relatif.pipeline.curvature.kronecker import eigenbasis, kronecker_spectrum, kronecker_sums, spectrum_sums
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.tasks.task import cross_entropy
from tests.reference.softmax import Array, Labels

CURVATURES = ("kfac", "ekfac", "exact", "identity")


def subject_of(model: nn.Module, classes: int) -> CoveredModel:
    """Return a classifier with the exact Fisher, everything trainable covered."""
    return CoveredModel(model, coverage(model), cross_entropy, Fisher(classes))


def examples_of(inputs: Tensor, first_index: int = 0) -> Examples:
    """Return inputs [N, ...] with labels of 0, which the exact Fisher does not look at."""
    return Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64), first_index)


def curvature_of(method: str, model: nn.Module, inputs: Array, classes: int, damping: float) -> Curvature:
    """Return the curvature of ``model`` over ``inputs [N, ...]`` in eigen form."""
    if method == "identity":
        return identity_curvature(coverage(model).blocks, damping)
    subject, examples = subject_of(model, classes), examples_of(torch.from_numpy(inputs))
    if method == "exact":
        rows = fisher_rows(subject, examples, rows_of(subject.coverage))
        values, vectors = joint_eigen(joint_matrix(subject.coverage, rows) / len(inputs))
        return Curvature({JOINT: LayerCurvature(DenseBasis(vectors), values.clamp(min=0)[None])}, damping)
    sums = kronecker_sums(subject, examples)
    blocks = {}
    for name, layer in sums.layers.items():
        output, input_ = (eigenbasis(moment, sums.count) for moment in (layer.output_moment, layer.input_moment))
        basis = KroneckerBasis(output[1], input_[1])
        blocks[name] = LayerCurvature(basis, kronecker_spectrum(output[0], input_[0]))
    if method == "ekfac":
        bases = {name: block.basis for name, block in blocks.items() if block.basis is not None}
        spectra = spectrum_sums(subject, examples, bases)
        blocks = {name: LayerCurvature(bases[name], spectra.layers[name] / spectra.count) for name in bases}
    return Curvature(blocks, damping)


def gradients_of(model: nn.Module, inputs: Array, labels: Labels) -> dict[str, LayerGradients]:
    """Return the per-example loss gradients of every layer."""
    forward = forward_pass(model, torch.from_numpy(inputs), coverage(model))
    losses = cross_entropy(forward.outputs, torch.as_tensor(labels, dtype=torch.int64))
    return forward.gradients(forward.output_gradients(losses))


def joined(gradients: Mapping[str, LayerGradients]) -> Array:
    """Return gradients as rows ``[N, P]``, layer after layer, each flattened row-major."""
    return torch.cat([gradient.dense().flatten(1) for gradient in gradients.values()], dim=1).numpy()


def dense_curvature(curvature: Curvature) -> Array:
    """Return ``Q diag(s + lambda) Q'``, ``[P, P]``."""
    blocks = [_dense_block(block) for block in curvature.blocks.values()]
    whole = torch.block_diag(*blocks).numpy()
    return np.asarray(whole + curvature.damping * np.eye(len(whole)))


def _dense_block(block: LayerCurvature) -> Tensor:
    if block.basis is None:
        return torch.diag(block.spectrum.flatten())
    basis = (
        block.basis.vectors
        if isinstance(block.basis, DenseBasis)
        else torch.kron(block.basis.output, block.basis.input)
    )
    return basis @ torch.diag(block.spectrum.flatten()) @ basis.T
