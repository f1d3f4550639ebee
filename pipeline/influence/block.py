"""A block of queries, and a shard of training examples that is ready to meet it.

Axes: M queries (explained inputs), N training examples of a shard.

A method's score is ``sign * numerator / denominator`` (``relatif.schemas.methods``). Methods with the same numerator
share a contraction.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import Curvature
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.influence.contraction import contraction, solved_contraction
from relatif.pipeline.influence.meeting import Contraction, Meeting, reciprocal, whitened_norms
from relatif.pipeline.influence.neighbours import Features, features, neighbour_error
from relatif.pipeline.influence.precision import Precision
from relatif.pipeline.inputs import Inputs, count
from relatif.pipeline.inputs import features as numbers_of
from relatif.schemas.errors import DataError
from relatif.schemas.methods import DISTANCE, GRADIENT, INFLUENCE, Method

Lengths = Callable[[Mapping[str, Tensor]], Tensor]
"""Reads |w_n| [N] float64 of a numerator off an example's table columns [N]."""


@dataclass(frozen=True)
class QueryNumerator:
    """The queries' side of one numerator: its contraction, |w_t| [M] float64, and how |w_n| is read off columns."""

    contraction: Contraction
    norms: Tensor
    lengths: Lengths


@dataclass(frozen=True)
class QueryBlock:
    """Queries ready to meet shards: numerators by name, the methods that use them, and the inputs' features.

    ``distance`` is the method that ranks by distance, if one is asked for.
    """

    numerators: Mapping[str, QueryNumerator]
    methods: tuple[Method, ...]
    features: Features
    neighbour_error: float
    distance: Method | None

    @property
    def rows(self) -> int:
        """Number of queries M."""
        return len(self.features.squares)

    def by_numerator(self, name: str) -> tuple[Method, ...]:
        """Return the methods with a numerator."""
        return tuple(method for method in self.methods if method.numerator == name)


@dataclass(frozen=True)
class TrainNumerator:
    """A shard's side of one numerator: the meeting with the block and |w_n| [N] float64."""

    meeting: Meeting
    norms: Tensor


@dataclass(frozen=True)
class TrainShard:
    """A shard ready to be scored: row of its first example, its numerators by name, and its features.

    ``scales[method]`` [N] is what a numerator is multiplied by: the sign over the denominator. An example whose
    gradient is zero moves nothing and scores zero.
    """

    start: int
    numerators: Mapping[str, TrainNumerator]
    features: Features
    scales: Mapping[str, Tensor]

    @property
    def nbytes(self) -> int:
        """Return about how much memory it takes to keep what exact scores are computed from."""
        return sum(each.meeting.nbytes for each in self.numerators.values())


def query_block(
    curvature: Curvature,
    rotated: Mapping[str, LayerGradients],
    inputs: Inputs,
    *,
    methods: Sequence[Method],
    precision: Precision,
    dense: bool = False,
) -> QueryBlock:
    """Make a block from Q'g_t and the model's inputs [M, ...].

    ``dense`` keeps the numerator ``influence`` even where no method asks for it. Q is orthogonal, so inner
    products of rotated gradients are those of the plain ones.
    """
    influence = {name: curvature.inverse(name) for name in rotated}
    asked = _asked(methods, dense=dense)
    made = {INFLUENCE: _numerator(influence, rotated, precision, _whitened)} if INFLUENCE in asked else {}
    if GRADIENT in asked:
        made[GRADIENT] = _plain(rotated, precision)
    return _block(made, inputs, methods, precision)


def solved_block(
    solutions: Mapping[str, Tensor],
    gradients: Mapping[str, LayerGradients],
    inputs: Inputs,
    *,
    methods: Sequence[Method],
    precision: Precision,
) -> QueryBlock:
    """Make a block from solutions (H + lambda I)^-1 g_t, [M, O, I] by layer, and plain gradients g_t."""
    # A solution carries the whole inverse, so |s_t| and |g_n| take the places of |w_t| and |w_n|.
    norms = torch.stack([values.flatten(1).norm(dim=1) for values in solutions.values()]).norm(dim=0)
    made = {INFLUENCE: QueryNumerator(solved_contraction(solutions, norms, precision), norms, _plain_lengths)}
    if GRADIENT in _asked(methods):
        made[GRADIENT] = _plain(gradients, precision)
    return _block(made, inputs, methods, precision)


def train_shard(
    block: QueryBlock,
    gradients: Mapping[str, LayerGradients],
    columns: Mapping[str, Tensor],
    inputs: Inputs,
    *,
    start: int,
) -> TrainShard:
    """Make a shard, to be scored against ``block``, from the gradients that the block reads and the model's inputs.

    ``columns`` [N] by name are those of ``train_examples``: denominators and norms are among them.
    """
    numerators = {}
    for name, query in block.numerators.items():
        norms = query.lengths(columns)
        numerators[name] = TrainNumerator(query.contraction.meet(gradients, norms), norms)
    scales = {method.name: scale_of(method, columns, count(inputs)) for method in block.methods}
    exact = numbers_of(inputs)
    if exact.shape[1] != block.features.exact.shape[1]:
        raise DataError(
            f"expected inputs of {block.features.exact.shape[1]} numbers, as the queries have, found {exact.shape[1]}; "
            f"read both through the same task"
        )
    shown = Features(exact, exact.to(block.features.screen.dtype), exact.double().square().sum(dim=1))
    return TrainShard(start, numerators, shown, scales)


def _asked(methods: Sequence[Method], *, dense: bool = False) -> set[str]:
    """Return the numerators that methods use."""
    return {method.numerator for method in methods} | ({INFLUENCE} if dense else set())


def _numerator(
    weights: Mapping[str, Tensor], gradients: Mapping[str, LayerGradients], precision: Precision, lengths: Lengths
) -> QueryNumerator:
    norms = whitened_norms(weights, gradients)
    return QueryNumerator(contraction(weights, gradients, norms, precision), norms, lengths)


def _whitened(columns: Mapping[str, Tensor]) -> Tensor:
    """Return |w| of gradients in whose numerator the curvature's inverse stands, [N]."""
    return columns["self_influence"].sqrt()


def _plain_lengths(columns: Mapping[str, Tensor]) -> Tensor:
    """Return |g|, [N]."""
    return columns["gradient_norm"]


def _plain(gradients: Mapping[str, LayerGradients], precision: Precision) -> QueryNumerator:
    ones = {name: gradient.ones() for name, gradient in gradients.items()}
    return _numerator(ones, gradients, precision, _plain_lengths)


def _block(
    numerators: Mapping[str, QueryNumerator], inputs: Inputs, methods: Sequence[Method], precision: Precision
) -> QueryBlock:
    shown = features(inputs, precision)
    scored = tuple(method for method in methods if method.numerator != DISTANCE)
    distance = next((method for method in methods if method.numerator == DISTANCE), None)
    return QueryBlock(numerators, scored, shown, neighbour_error(precision, shown.exact.shape[1]), distance)


def scale_of(method: Method, columns: Mapping[str, Tensor], count: int) -> Tensor:
    """Return sign / denominator of N training examples, and 0 where the denominator is 0."""
    if method.denominator is None:
        # Any column will do: it only gives the device.
        some = next(iter(columns.values()))
        return torch.full((count,), float(method.sign), dtype=torch.float64, device=some.device)
    values = columns[method.denominator]
    return method.sign * reciprocal(values.sqrt() if method.root else values)
