"""Which layers, and which tokens of a training example, its influence on a query comes from.

Axes: M queries, N training examples, T tokens of a text, P parameters side by side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.datasets.description import Subject
from relatif.pipeline.explaining.examples import ExplainedExamples
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.influence.parts import (
    Queries,
    block_parts,
    gradient_queries,
    influence_queries,
    solved_queries,
)

Uses = Mapping[str, Sequence[Factors]]
"""Every use of each block, by the block's name."""


@dataclass(frozen=True, eq=False)
class Parts:
    """Numerators of N training examples for one query in parts, float64: ``layers`` [N] by name add up to them.

    ``tokens`` [N, T] and ``rest`` [N] add up to them, too: the rest comes from layers that aren't applied token by
    token, ``whole`` by name. Where no layer is, or inputs are no tokens, ``tokens`` is None. ``by_token`` says whether
    tokens were asked for.
    """

    layers: Mapping[str, Tensor]
    tokens: Tensor | None
    rest: Tensor
    whole: tuple[str, ...]
    by_token: bool = False

    @property
    def total(self) -> Tensor:
        """Return the numerators themselves, [N]."""
        return reduce(add, self.layers.values())

    def scaled(self, factors: Tensor) -> "Parts":
        """Return the parts times a number for each training example [N], such as the sign over the denominator."""
        layers = {name: values * factors for name, values in self.layers.items()}
        tokens = None if self.tokens is None else self.tokens * factors[:, None]
        return Parts(layers, tokens, self.rest * factors, self.whole, self.by_token)

    def rows(self, rows: Sequence[int]) -> "Parts":
        """Return the parts of some training examples."""
        layers = {name: values[rows] for name, values in self.layers.items()}
        tokens = None if self.tokens is None else self.tokens[rows]
        return Parts(layers, tokens, self.rest[rows], self.whole, self.by_token)


def token_count(subject: Subject) -> int | None:
    """Return T where a data set's inputs are tokens or characters of a text, else None.

    These are whole numbers [T] by the name ``input_ids``, and codes of a vocabulary.
    """
    first = subject.input
    is_text = first.vocabulary is not None or first.name == "input_ids" or first.text_column is not None
    whole = first.dtype in ("uint8", "int64") and len(first.shape) == 1
    return first.shape[0] if is_text and whole else None


def parts_of_influence(explainer: Explainer, query: ExplainedExamples, training: Examples, tokens: int | None) -> Parts:
    """Return the parts of influence (Eq. 3) of training examples [N] on one query, as ``explainer`` explained it.

    With a curvature that is solved for, take ``parts_of_solution``.
    """
    rotated, shapes = query.gradients, explainer.subject.coverage.blocks
    return _parts(explainer, influence_queries(explainer.curvature, rotated, shapes), training, tokens)


def parts_of_gradients(explainer: Explainer, query: ExplainedExamples, training: Examples, tokens: int | None) -> Parts:
    """Return the parts of the plain inner products of gradients of training examples [N] with one query's."""
    shapes = explainer.subject.coverage.blocks
    if explainer.numerators_are_solved:
        plain = solved_queries({name: each.dense() for name, each in query.gradients.items()})
    else:
        plain = gradient_queries(explainer.curvature, query.gradients, shapes)
    return _parts(explainer, plain, training, tokens)


def parts_of_solution(explainer: Explainer, solved: Tensor, training: Examples, tokens: int | None) -> Parts:
    """Return the parts of influence from one query's (H + lambda I)^-1 g, [1, P]."""
    queries = solved_queries(by_layer(solved, explainer.subject.coverage.blocks))
    return _parts(explainer, queries, training, tokens)


def _parts(explainer: Explainer, queries: Queries, training: Examples, tokens: int | None) -> Parts:
    with explainer.lock:
        cut = list(pieces(explainer.subject, training))
    found = [_of_piece(explainer, queries, piece, tokens) for piece in cut]
    first = found[0]
    layers = {name: torch.cat([each.layers[name] for each in found]) for name in first.layers}
    some = [each.tokens for each in found if each.tokens is not None]
    by_token, rest = torch.cat(some) if some else None, torch.cat([each.rest for each in found])
    return Parts(layers, by_token, rest, first.whole, first.by_token)


def _of_piece(explainer: Explainer, queries: Queries, training: Examples, tokens: int | None) -> Parts:
    by_block = block_parts(queries, recorded_uses(explainer, training))
    layers, by_token, rest = {}, list[Tensor](), [torch.zeros(len(training), dtype=torch.float64)]
    whole = []
    for name, layer in explainer.subject.coverage.layers.items():
        uses = [use.cpu() for block in layer.blocks for use in by_block[block]]
        layers[name] = reduce(add, (use.sum(dim=1) for use in uses))
        told = [use for use in uses if use.shape[1] == tokens]
        by_token += told
        rest += [use.sum(dim=1) for use in uses if use.shape[1] != tokens]
        whole += [name] if len(told) < len(uses) else []
    found = reduce(add, by_token) if by_token else None
    return Parts(layers, found, reduce(add, rest), tuple(whole), tokens is not None)


def recorded_uses(explainer: Explainer, training: Examples) -> Uses:
    """Return the factors of the losses' gradients of training examples, use by use, as a forward pass records them."""
    subject, found = explainer.subject, dict[str, list[Factors]]()
    with explainer.lock:
        first = training.first_index
        forward = forward_pass(subject.model, training.inputs, subject.coverage, first_index=first)
        outputs = forward.outputs.detach()
        targets = subject.likelihood.explained(outputs, training.targets, "true")
        gradients = forward.backward(subject.likelihood.gradient(outputs, targets))
        for use, gradient in zip(forward.uses, gradients, strict=True):
            if gradient is not None:
                for block, factors in use.factors(gradient):
                    found.setdefault(block, []).append(factors)
    return found
