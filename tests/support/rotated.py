"""Gradients that stand in an eigenbasis: as the pipeline holds them, and scored by brute force in float64."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import Curvature, LayerCurvature, norms_of
from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.influence.block import QueryBlock, TrainShard, query_block, train_shard
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.influence.screening import Shortlist
from relatif.pipeline.influence.top_k import TopK
from relatif.schemas.methods import METHODS
from tests.reference.problems import RotatedProblem
from tests.reference.softmax import Array

SCORED_METHODS = ("influence", "theta_relatif", "l_relatif", "gradient_cosine", "negative_influence")
"""All methods but the one by distance."""


@dataclass(frozen=True)
class BruteForce:
    """Scores [M, N] by method, and the norms of whitened gradients |w_t| [M] and |w_n| [N].

    ``lengths`` [M, N] by method are the largest scores that Cauchy and Schwarz allow.
    """

    scores: dict[str, Array]
    test_norms: Array
    train_norms: Array
    lengths: dict[str, Array]


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
    scores = {name: _quotient(plain, values) for name, values in denominators.items()}
    lengths = {name: _quotient(np.outer(*norms), values) for name, values in denominators.items()}
    gradient_norms = np.outer(*(np.linalg.norm(gradients, axis=1) for gradients in (test, train)))
    scores |= {"gradient_cosine": _quotient(test @ train.T, gradient_norms), "negative_influence": 0 - plain}
    lengths |= {"gradient_cosine": np.ones_like(plain), "negative_influence": lengths["influence"]}
    return BruteForce(scores, *norms, lengths)


def curvature_in(problem: RotatedProblem) -> Curvature:
    """Return the diagonal curvature."""
    blocks = {str(layer): LayerCurvature(None, torch.from_numpy(s)) for layer, s in enumerate(problem.spectra)}
    return Curvature(blocks, problem.damping)


def block_of(
    curvature: Curvature, rotated: Mapping[str, LayerGradients], inputs: Tensor, precision: Precision
) -> QueryBlock:
    """Return a block of queries for all methods."""
    return query_block(curvature, rotated, inputs, methods=tuple(METHODS.values()), precision=precision)


def shard_of(
    block: QueryBlock, curvature: Curvature, rotated: Mapping[str, LayerGradients], inputs: Tensor, *, start: int
) -> TrainShard:
    """Return a shard with the denominators of the curvature in which its gradients are given."""
    norms = norms_of(curvature, rotated)
    columns = {
        "theta_norm": norms.theta,
        "self_influence": norms.self_influence,
        "gradient_norm": norms.gradient,
    }
    return train_shard(block, rotated, columns, inputs, start=start)


def score_tile(block: QueryBlock, shard: TrainShard, rows: slice, running: Mapping[str, TopK]) -> dict[str, Tensor]:
    """Update ``running`` (in place, some rows only) with one shard; return the tile of each numerator."""
    shortlist = Shortlist(block, rows, running)
    tiles = shortlist.look(shard)
    shortlist.settle()
    return tiles


def rotated_gradients(
    part: list[tuple[Array, Array]], rows: slice = slice(None), *, dense: bool = False
) -> dict[str, LayerGradients]:
    """Return the gradients of some rows, by layer; ``dense`` holds them entry by entry."""
    found: dict[str, LayerGradients] = {}
    for layer, (outputs, inputs) in enumerate(part):
        factored = FactoredGradients(torch.from_numpy(outputs[rows]), torch.from_numpy(inputs[rows]))
        found[str(layer)] = DenseGradients(factored.dense()) if dense else factored
    return found


def _quotient(above: Array, below: Array) -> Array:
    """Return above / below, and 0 where below is 0."""
    return np.where(below > 0, above / np.where(below > 0, below, 1), 0)


def _dense(part: list[tuple[Array, Array]]) -> Array:
    count = len(part[0][0])
    rows = [(outputs[:, :, None] * inputs[:, None, :]).reshape(count, -1) for outputs, inputs in part]
    return np.concatenate(rows, axis=1)
