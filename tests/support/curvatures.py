"""Curvatures and gradients of small models, made with the pipeline's own functions, and as dense matrices."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import JOINT, Curvature, DenseBasis, KroneckerBasis, LayerCurvature
from relatif.pipeline.curvature.exact import fisher_strips, joint_eigen, joint_matrix, strips_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.kronecker import eigenbasis, kronecker_spectrum, kronecker_sums, spectrum_sums
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from tests.reference.softmax import Array, Labels

CURVATURES = ("kfac", "ekfac", "exact", "identity")


def subject_of(model: nn.Module, classes: int) -> CoveredModel:
    """Return a classifier with the exact Fisher, everything trainable covered."""
    return CoveredModel(model, coverage(model), Categorical(classes), Fisher())


def examples_of(inputs: Tensor, first_index: int = 0) -> Examples:
    """Return inputs [N, ...] with labels of 0, which the exact Fisher does not look at."""
    return Examples(inputs, torch.zeros(len(inputs), dtype=torch.int64), first_index)


def curvature_of(method: str, model: nn.Module, inputs: Array, classes: int, damping: float) -> Curvature:
    """Return the curvature of ``model`` over ``inputs [N, ...]`` in eigen form."""
    if method == "identity":
        shapes = coverage(model).blocks
        zero = {name: LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
        return Curvature(zero, damping)
    subject, examples = subject_of(model, classes), examples_of(torch.from_numpy(inputs))
    if method == "exact":
        strips = fisher_strips(subject, examples, strips_of(subject.coverage))
        values, vectors = joint_eigen(joint_matrix(subject.coverage, strips) / len(inputs))
        return Curvature({JOINT: LayerCurvature(DenseBasis(vectors), values.clamp(min=0)[None])}, damping)
    sums = kronecker_sums(subject, examples)
    blocks = {}
    for name, layer in sums.layers.items():
        output, input_ = (eigenbasis(moment, sums.count) for moment in (layer.output_moment, layer.input_moment))
        basis = KroneckerBasis(output[1], input_[1])
        blocks[name] = LayerCurvature(basis, kronecker_spectrum(output[0], input_[0]))
    if method == "ekfac":
        bases = {name: block.basis for name, block in blocks.items() if isinstance(block.basis, KroneckerBasis)}
        spectra = spectrum_sums(subject, examples, bases)
        blocks = {name: LayerCurvature(bases[name], spectra.layers[name] / spectra.count) for name in bases}
    return Curvature(blocks, damping)


def identity_of(shapes: Mapping[str, tuple[int, int]], damping: float) -> Curvature:
    """Return H = 0 in the standard basis: with damping 1 influence is the plain inner product of gradients."""
    layers = {name: LayerCurvature(None, torch.zeros(shape, dtype=torch.float64)) for name, shape in shapes.items()}
    return Curvature(layers, damping)


def gradients_of(model: nn.Module, inputs: Array, labels: Labels) -> dict[str, LayerGradients]:
    """Return the per-example loss gradients of every layer."""
    forward = forward_pass(model, torch.from_numpy(inputs), coverage(model))
    outputs, targets = forward.outputs.detach(), torch.as_tensor(labels, dtype=torch.int64)
    return forward.gradients(forward.backward(Categorical(outputs.shape[1]).gradient(outputs, targets)))


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
    if isinstance(block.basis, DenseBasis):
        basis = block.basis.vectors
    else:
        sides = zip((block.basis.output, block.basis.input), block.spectrum.shape, strict=True)
        basis = torch.kron(*(torch.eye(width, dtype=torch.float64) if side is None else side for side, width in sides))
    return basis @ torch.diag(block.spectrum.flatten()) @ basis.T
