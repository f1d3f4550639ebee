"""Gradients that stand in an eigenbasis: as the pipeline holds them, and scored by brute force in float64."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import Curvature, LayerCurvature, self_influence, theta_norm
from relatif.pipeline.curvature.gradients import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.influence.block import TestBlock, TrainShard, train_shard
from tests.reference.problems import RotatedProblem
from tests.reference.softmax import Array

RELATIVE_METHODS = ("influence", "theta_relatif", "l_relatif")


@dataclass(frozen=True)
class BruteForce:
    """Scores [M, N] by method, and the norms of whitened gradients |w_t| [M] and |w_n| [N]."""

    scores: dict[str, Array]
    test_norms: Array
    train_norms: Array
    scales: dict[str, Array]


def brute_force(problem: RotatedProblem) -> BruteForce:
    """Score all pairs from dense gradients; an example whose gradient is zero scores zero."""
    inverse, test, train = problem.inverse(), _dense(problem.test), _dense(problem.train)
    plain = (test * inverse) @ train.T
    norms = [np.sqrt((gradients**2) @ inverse) for gradients in (test, train)]
    denominators = {
        "influence": np.ones(len(train)),
        "theta_relatif": np.sqrt((train**2) @ inverse**2),
        "l_relatif": norms[1],
    }
    scales = {
        name: np.where(values > 0, 1 / np.where(values > 0, values, 1), 0) for name, values in denominators.items()
    }
    scores = {
        name: np.where(values > 0, plain / np.where(values > 0, values, 1), 0) for name, values in denominators.items()
    }
    return BruteForce(scores, *norms, scales)


def curvature_in(problem: RotatedProblem) -> Curvature:
    """Return the diagonal curvature."""
    blocks = {str(layer): LayerCurvature(None, torch.from_numpy(s)) for layer, s in enumerate(problem.spectra)}
    return Curvature(blocks, problem.damping)


def shard_of(
    block: TestBlock, curvature: Curvature, rotated: Mapping[str, LayerGradients], inputs: Tensor, *, start: int
) -> TrainShard:
    """Return a shard with the denominators of the curvature in which its gradients are given."""
    denominators = {
        "theta_relatif": theta_norm(curvature, rotated),
        "l_relatif": self_influence(curvature, rotated).sqrt(),
    }
    return train_shard(block, rotated, denominators, inputs, start=start)


def rotated_gradients(
    part: list[tuple[Array, Array]], rows: slice = slice(None), *, dense: bool = False
) -> dict[str, LayerGradients]:
    """Return the gradients of some rows, by layer; ``dense`` holds them entry by entry."""
    found: dict[str, LayerGradients] = {}
    for layer, (outputs, inputs) in enumerate(part):
        factored = FactoredGradients(torch.from_numpy(outputs[rows]), torch.from_numpy(inputs[rows]))
        found[str(layer)] = DenseGradients(factored.dense()) if dense else factored
    return found


def _dense(part: list[tuple[Array, Array]]) -> Array:
    count = len(part[0][0])
    rows = [(outputs[:, :, None] * inputs[:, None, :]).reshape(count, -1) for outputs, inputs in part]
    return np.concatenate(rows, axis=1)
