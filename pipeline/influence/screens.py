"""Screens of one layer's rank-one gradients: sums that are cheaper than the exact ones, each with a proven bound.

Axes: M queries, m of them in a tile, N training examples of a shard, O outputs, I inputs, R terms, S and L entries of
the shorter and the longer of the two factors.

With rotated output gradients d and inputs a, a pair's influence is ``sum_oi C[o, i] d_t[o] d_n[o] a_t[i] a_n[i]``. Both
gradients are of whitened length 1, so an error that is at most a share x of every term, in absolute value, changes the
sum by at most x (Cauchy and Schwarz: the absolute values of all terms are at most 1 in sum). u is the unit roundoff of
the type of the products, f that of float32, in which sums of K terms lose at most K f.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import FactoredGradients
from relatif.pipeline.influence.low_rank import LowRank, low_rank_forms
from relatif.pipeline.influence.precision import FLOAT32_UNIT, SCREENING_FLOAT32, UPWARD, Precision
from relatif.pipeline.influence.products import product

WORTHLESS_ERROR = 0.1
"""A bound of this share of |w_t| |w_n| screens out too little to be worth what it saves."""

SMALL_TERMS = 16
"""Rounding steps of a value that is not a sum: more than there are."""

PASS_COST = 40
"""What a product's pass over a tile costs for each pair, in multiplications of float32 products: measured."""

MOST_TERMS = 64
"""Forms of more terms are not looked at: a spectrum without a smaller one is rough."""

EXACT_COST = 4
"""What a multiplication of an exact score's costs, in such multiplications."""

SHARE_OF_ERROR = 4
"""The share of pairs that pass a screen, over its error: from 0.2 to 5 in what was measured."""

Sides = tuple[Tensor, Tensor]
"""A shard's side of a screen: one factor float32, and the one whose products are long in the type of the products."""


class Screen(Protocol):
    """The queries' side of one layer."""

    @property
    def error(self) -> float:
        """Return the bound as a share of |w_t| |w_n| of this layer, but for what ``rounding`` measures."""
        ...

    @property
    def passes(self) -> int:
        """Return how many products are added to a tile."""
        ...

    @property
    def reach(self) -> float:
        """Return what the products' absolute values are at most in sum, as such a share."""
        ...

    @property
    def rounding(self) -> Tensor:
        """Return the squared whitened length of what rounding changed in unit queries, [M] float64."""
        ...

    def sides(self, unit: FactoredGradients) -> Sides:
        """Return a shard's side, from gradients of whitened length 1."""
        ...

    def add(self, total: Tensor, rows: slice, shard: Sides) -> None:
        """Add the layer's part of a tile of some queries to ``total`` [m, N] float32."""
        ...


@dataclass(frozen=True, eq=False)
class TermsScreen:
    """C as a sum of R terms u_r x v_r: ``sum_r (u_r d_t . d_n) (v_r a_t . a_n)``.

    ``outputs`` [R, M, O] float32 holds u_r d_t, ``inputs`` [R, M, I] v_r a_t in the type of the products: a shard needs
    one copy of its factors for all terms. What makes up ``error``, with E and A the form's error and amplification:

    - the form: E of every term;
    - rounding a_n: u of every term of the whole sum, so (1 + E) u;
    - rounding a product to the type: u of each of the R parts, whose absolute values are A times the whole in sum;
    - float32 sums over outputs and inputs: (O + I + 16) f of each part, so A (O + I + 16) f;
    - what these do to one another: A u (2 u + u^2) + 2 A u^2.

    What rounding v_r a_t does is measured (``rounding``), as such errors add up at random.
    """

    outputs: Tensor
    inputs: Tensor
    error: float
    reach: float
    rounding: Tensor

    @property
    def passes(self) -> int:
        """Return R."""
        return len(self.outputs)

    def sides(self, unit: FactoredGradients) -> Sides:
        """Return a shard's factors."""
        return unit.outputs.float(), unit.inputs.to(self.inputs.dtype)

    def add(self, total: Tensor, rows: slice, shard: Sides) -> None:
        """Add one part of the form at a time."""
        for outputs, inputs in zip(self.outputs, self.inputs, strict=True):
            # In place: a tile and its parts stay in a core's cache.
            total.addcmul_(product(inputs[rows], shard[1]), product(outputs[rows], shard[0]))


@dataclass(frozen=True, eq=False)
class EntriesScreen:
    """C as it is, one entry of the shorter factor at a time: ``sum_s y_n[s] ((C[s] y_t[s] x_t) . x_n)``.

    x is the longer factor of a gradient, y the shorter; ``weights`` [S, L], ``short`` [M, S] and ``long`` [M, L] are
    float32. C[s] y_t[s] x_t is rounded to the type of the products, ``dtype``, and so are x_n and a product: u of every
    term three times, ``(1 + u)^3 - 1``. Sums of L terms in float32 add at most (O + I + 16) f of that.
    """

    short: Tensor
    long: Tensor
    weights: Tensor
    dtype: torch.dtype
    chosen: Callable[[FactoredGradients], Sides]
    error: float
    rounding: Tensor

    @property
    def passes(self) -> int:
        """Return S."""
        return len(self.weights)

    @property
    def reach(self) -> float:
        """Return 1, and the error of each term."""
        return 1 + self.error

    def sides(self, unit: FactoredGradients) -> Sides:
        """Return a shard's factors."""
        short, long = self.chosen(unit)
        return short.float(), long.to(self.dtype)

    def add(self, total: Tensor, rows: slice, shard: Sides) -> None:
        """Add one entry of the shorter factor at a time: no array of all entries is formed."""
        short, long = self.short[rows], self.long[rows]
        for entry, weights in enumerate(self.weights):
            left = (long * weights).mul_(short[:, entry, None])
            total.addcmul_(product(left.to(self.dtype), shard[1]), shard[0][:, entry])


def forms_of(weights: Tensor) -> tuple[LowRank, ...]:
    """Return the low-rank forms of C [O, I] that are looked at."""
    return tuple(islice(low_rank_forms(weights), MOST_TERMS))


def cheapest_screen(unit: FactoredGradients, weights: Tensor, precision: Precision, forms: Sequence[LowRank]) -> Screen:
    """Return the cheapest screen for unit queries and C [O, I] float64 with its ``forms``, by ``Plan.cost``.

    A form's own error is at most the tolerance of ``precision``. The screen by entries has no parts that could cancel:
    its bound always is worth having.
    """
    best = Plan(precision, None, weights.shape)
    for form in forms:
        plans = [Plan(each, form, weights.shape) for each in _types(precision)]
        if min(plan.products for plan in plans) >= best.cost:
            break
        if form.error <= precision.low_rank_tolerance:
            best = min([best, *(plan for plan in plans if plan.error <= WORTHLESS_ERROR)], key=lambda plan: plan.cost)
    return best.made(unit, weights)


def _types(precision: Precision) -> Sequence[Precision]:
    """Return the type of the products, and float32, in which parts may cancel more."""
    return [precision] if precision.dtype == torch.float32 else [precision, SCREENING_FLOAT32]


@dataclass(frozen=True)
class Plan:
    """A screen that could be made: by the terms of a form, or by entries (None), with products of a precision."""

    precision: Precision
    form: LowRank | None
    shape: torch.Size

    @property
    def products(self) -> float:
        """Return what a pair's products cost, in multiplications of float32 products: passes over a tile included."""
        (shorter, longer), speedup = sorted(self.shape), self.precision.speedup
        if self.form is None:
            return shorter * (longer / speedup + PASS_COST)
        return self.form.rank * (self.shape[0] + self.shape[1] / speedup + PASS_COST)

    @property
    def cost(self) -> float:
        """Return what a pair costs with the exact score, of each entry, that the error lets some pairs have."""
        return self.products + SHARE_OF_ERROR * self.error * EXACT_COST * self.shape.numel()

    @property
    def error(self) -> float:
        """Return the bound that the screen will have, but for what is measured."""
        u, sums = self.precision.unit, (sum(self.shape) + SMALL_TERMS) * FLOAT32_UNIT
        if self.form is None:
            return (1 + u) ** 3 * (1 + sums) - 1
        parts = u * (1 + u) ** 2 + sums
        return self.form.error + (1 + self.form.error) * u + self.form.amplification * (parts + 2 * u**2)

    def made(self, unit: FactoredGradients, weights: Tensor) -> Screen:
        """Prepare unit queries."""
        dtype = self.precision.dtype
        if self.form is None:
            chosen, turned = _shorter_first(weights)
            short, long = chosen(unit)
            exact = torch.zeros_like(short[:, 0])
            return EntriesScreen(short.float(), long.float(), turned.float(), dtype, chosen, self.error, exact)
        outputs = (unit.outputs * self.form.output_factors[:, None, :]).float()
        inputs = torch.stack([(unit.inputs * factors).to(dtype) for factors in self.form.input_factors])
        rounding = squared_rounding(unit, inputs, self.form, weights)
        return TermsScreen(outputs, inputs, self.error, self.form.amplification, rounding)


def _shorter_first(weights: Tensor) -> tuple[Callable[[FactoredGradients], Sides], Tensor]:
    """Return how to take a gradient's shorter factor, then the longer one, and the weights in that order, [S, L]."""
    if weights.shape[0] <= weights.shape[1]:
        return _outputs_first, weights
    return _inputs_first, weights.T.contiguous()


def _outputs_first(unit: FactoredGradients) -> Sides:
    return unit.outputs, unit.inputs


def _inputs_first(unit: FactoredGradients) -> Sides:
    return unit.inputs, unit.outputs


def squared_rounding(unit: FactoredGradients, rounded: Tensor, form: LowRank, weights: Tensor) -> Tensor:
    """Return the squared whitened length, [M], of what rounding the inputs to ``rounded`` [R, M, I] changes in queries.

    With rounding errors e_r [M, I] of the R inputs it is the length over (o, i) of ``sum_r u_r[o] e_r[i] d_t[o] /
    sqrt(C[o, i])``. Divided by sqrt(C), the error multiplies w_n: by Cauchy-Schwarz the length bounds what it does in
    a tile. As the square of a sum it is

        sum_rs sum_i e_r[i] e_s[i] (sum_o d_t[o]^2 u_r[o] u_s[o] / C[o, i]),

    a matrix product for each r <= s, in place of one pass over M O I numbers for each r. In float32, whose errors are
    of no weight, the sum of R lengths, which is never less, takes R products.
    """
    errors = [
        values.double() - unit.inputs * factors for values, factors in zip(rounded, form.input_factors, strict=True)
    ]
    squares, inverse = unit.outputs.square(), 1 / weights

    def meet(one: int, other: int) -> Tensor:
        factors = form.output_factors[one] * form.output_factors[other]
        return (((squares * factors) @ inverse) * errors[one] * errors[other]).sum(dim=1)

    count = len(errors)
    lengths = torch.stack([meet(r, r) for r in range(count)])
    if rounded.dtype == torch.float32:
        return lengths.sqrt().sum(dim=0).square() * UPWARD
    total = lengths.sum(dim=0)
    for r in range(count):
        for s in range(r + 1, count):
            total += 2 * meet(r, s)
    # Parts may cancel: what float64 rounds in the sum is a share of the lengths themselves.
    return (total + count * ROUNDED_SHARE * lengths.sum(dim=0)) * UPWARD


ROUNDED_SHARE = 1e-9
"""Of a sum of float64 numbers, more than rounding takes."""
