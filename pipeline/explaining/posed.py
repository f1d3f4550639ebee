"""Queries in the form in which they meet training examples, whatever the numerators are made of.

Axes: M queries, P parameters side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.forms import DenseGradients, LayerGradients
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.found import Asked
from relatif.pipeline.influence.block import QueryBlock, query_block, solved_block
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.inputs import device_of
from relatif.schemas.methods import GRADIENT, INFLUENCE


@dataclass(frozen=True, eq=False)
class Side:
    """A numerator's side of the queries: their gradients, or solutions, and C [O, I] between two gradients by layer."""

    gradients: Mapping[str, LayerGradients]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Posed:
    """A block of queries, the queries that it was made of, and the sides of its numerators by name."""

    block: QueryBlock
    queries: ExplainedExamples
    sides: Mapping[str, Side]


def posed(
    explainer: Explainer, queries: ExplainedExamples, solved: Tensor | None, asked: Asked, precision: Precision
) -> Posed:
    """Return queries ready for what is asked; ``solved`` [M, P] are (H + lambda I)^-1 g_t where they are solved for."""
    gradients, sought = queries.gradients, asked.sought
    plain = Side(gradients, {name: each.ones() for name, each in gradients.items()})
    if solved is None:
        block = query_block(explainer.curvature, gradients, queries.inputs, methods=sought, precision=precision)
        whole = Side(gradients, {name: explainer.curvature.inverse(name) for name in gradients})
    else:
        solutions = by_layer(solved.to(device_of(queries.inputs)), explainer.subject.coverage.blocks)
        block = solved_block(solutions, gradients, queries.inputs, methods=sought, precision=precision)
        dense = {name: DenseGradients(values) for name, values in solutions.items()}
        whole = Side(dense, {name: each.ones() for name, each in dense.items()})
    sides = {INFLUENCE: whole, GRADIENT: plain}
    return Posed(block, queries, {name: sides[name] for name in block.numerators})
