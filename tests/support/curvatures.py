"""Curvatures and gradients of small models, made with the pipeline's own functions, and as dense matrices."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.coverage import coverage
from relatif.pipeline.curvature.eigen import Curvature, DenseBasis, LayerCurvature
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.likelihood import Categorical
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.explaining.fitting import fitted_curvature
from relatif.schemas.config import CurvatureConfig
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
        return identity_of(coverage(model).blocks, damping)
    subject, examples = subject_of(model, classes), examples_of(torch.from_numpy(inputs))
    return fitted_curvature(subject, examples, CurvatureConfig(method=method, damping=damping))


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
