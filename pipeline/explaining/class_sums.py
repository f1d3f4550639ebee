"""Influence summed over groups of training examples and of queries, in one pass over the training set.

Axes: M queries, n training examples, N of them in a piece, C groups.

Influence is linear in the query's gradient, so queries of a group are one query whose gradient is their sum.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import influence
from relatif.pipeline.curvature.forms import DenseGradients, LayerGradients
from relatif.pipeline.explaining.engine import Engine
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.shard_rows import cut, explained, held_rows
from relatif.schemas.errors import ConfigurationError


def summed_influence(
    engine: Engine, queries: ExplainedExamples, query_groups: Tensor, train_groups: Tensor, count: int
) -> Tensor:
    """Return ``sum of I[t, i]`` over the queries t of a group and the examples i of another, [C, C] float64 (Eq. 3).

    ``query_groups`` [M] and ``train_groups`` [n] are int64; who is in none of the ``count`` groups has a number outside
    of 0 to C - 1 and is left out. Sums are first order: leaving a whole group out is another matter. Raises
    ConfigurationError where the numerators are solved for, as there is no eigen form.
    """
    if engine.solver is not None:
        raise ConfigurationError(
            f"expected a curvature in eigen form to sum influence by, found {engine.run.config.curvature.method}; "
            f"choose kfac, ekfac, exact or identity"
        )
    grouped = _grouped(queries, query_groups, count)
    sums = torch.zeros(count, count, dtype=torch.float64)
    for piece in cut(engine.run.scored_shards, held_rows(queries.gradients)):
        some = explained(engine.run.source, engine.explainer, piece)
        values = influence(engine.explainer.curvature, grouped, some.gradients).double().cpu()
        groups = train_groups[piece.first : piece.first + len(some)]
        known = (groups >= 0) & (groups < count)
        sums.index_add_(1, groups[known], values[:, known])
    return sums


def _grouped(queries: ExplainedExamples, groups: Tensor, count: int) -> Mapping[str, LayerGradients]:
    """Return the sums of the gradients of each group's queries, [C, O, I] by layer."""
    found = {}
    for name, gradients in queries.gradients.items():
        some = gradients.ones()
        total = torch.zeros(count, *gradients.shape, dtype=some.dtype, device=some.device)
        height = held_rows({name: DenseGradients(gradients.rows(slice(0, 1)).dense())})
        for start in range(0, len(queries), height):
            rows = slice(start, start + height)
            known = (groups[rows] >= 0) & (groups[rows] < count)
            places = groups[rows][known].to(some.device)
            total.index_add_(0, places, gradients.rows(rows).dense()[known.to(some.device)])
        found[name] = DenseGradients(total)
    return found
