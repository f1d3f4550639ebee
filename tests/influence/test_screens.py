"""Screens of one layer: every form of them stays within its bound, and the choice is the cheapest of them."""

from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from relatif.pipeline.curvature.forms import FactoredGradients
from relatif.pipeline.influence.low_rank import LowRank, low_rank_forms
from relatif.pipeline.influence.pair_sums import closest_form
from relatif.pipeline.influence.precision import FULL, SCREENING_BFLOAT16, SCREENING_FLOAT32, Precision
from relatif.pipeline.influence.screens import (
    EntriesScreen,
    Plan,
    Screen,
    TermsScreen,
    cheapest_screen,
    forms_of,
    squared_rounding,
)
from tests.reference.problems import KINDS, rotated

torch.set_num_threads(1)

SINGLE = 2.0**-24
CASES = settings(max_examples=25, deadline=None)
precisions = st.sampled_from([SCREENING_BFLOAT16, SCREENING_FLOAT32])
shapes = st.tuples(st.integers(1, 12), st.integers(1, 12))
seeds = st.integers(0, 2**32 - 1)


def unit(outputs: Tensor, inputs: Tensor, weights: Tensor) -> FactoredGradients:
    """Return gradients of whitened length 1 (zeros stay) with inputs of length 1, as a block holds them."""
    lengths = inputs.norm(dim=1, keepdim=True)
    inputs = torch.where(lengths > 0, inputs / lengths, 0.0)
    norms = ((outputs.square() @ weights) * inputs.square()).sum(dim=1, keepdim=True).sqrt()
    return FactoredGradients(torch.where(norms > 0, outputs / norms, 0.0), inputs)


def cosines(queries: FactoredGradients, training: FactoredGradients, weights: Tensor) -> Tensor:
    return torch.einsum(
        "oi,mo,mi,no,ni->mn", weights, queries.outputs, queries.inputs, training.outputs, training.inputs
    )


def tile_of(screen: Screen, training: FactoredGradients, rows: slice, height: int) -> Tensor:
    total = torch.zeros(height, training.count)
    screen.add(total, rows, screen.sides(training))
    return total.double()


def check_bound(screen: Screen, queries: FactoredGradients, training: FactoredGradients, weights: Tensor) -> None:
    expected = cosines(queries, training, weights)
    found = tile_of(screen, training, slice(0, queries.count), queries.count)
    summed = screen.passes * SINGLE * screen.reach
    allowed = screen.error + screen.rounding.sqrt()[:, None] + summed + 1e-12
    assert bool(((found - expected).abs() <= allowed).all())


def plans(precision: Precision, weights: Tensor) -> list[Plan]:
    """Return every plan for a layer: by entries, and by the form of each rank."""
    forms: list[LowRank | None] = [None, *low_rank_forms(weights)]
    return [Plan(precision, form, weights.shape) for form in forms]


@pytest.mark.parametrize("kind", KINDS)
@CASES
@given(shape=shapes, seed=seeds, precision=precisions)
def test_every_screen_stays_within_its_bound(kind, shape, seed, precision) -> None:
    """The bounds of forms of too small a rank, which are of no use, are as true."""
    problem = rotated(seed, kind=kind, shapes=(shape,))
    weights = torch.from_numpy(problem.inverse().reshape(shape))
    queries, training = (
        unit(*(torch.from_numpy(factor) for factor in part[0]), weights) for part in (problem.test, problem.train)
    )

    for plan in plans(precision, weights):
        check_bound(plan.made(queries, weights), queries, training, weights)


@pytest.mark.parametrize("precision", [SCREENING_BFLOAT16, SCREENING_FLOAT32])
@pytest.mark.parametrize("shape", [(3, 60), (60, 3)])
def test_training_gradients_along_the_errors_of_the_queries_stay_within_the_bound(shape, precision) -> None:
    """What rounding makes of a query, over the weights, is the direction in which it matters most."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(shape, dtype=torch.float64, generator=generator).exp()
    outputs, inputs = (torch.randn(8, size, dtype=torch.float64, generator=generator) for size in shape)
    queries = unit(outputs, inputs, weights)
    for plan in plans(precision, weights):
        screen = plan.made(queries, weights)
        # The errors of a query are those of the screen against each single entry: the largest rank-one part of them.
        ones = FactoredGradients(
            torch.eye(shape[0], dtype=torch.float64).repeat_interleave(shape[1], 0),
            torch.eye(shape[1], dtype=torch.float64).repeat(shape[0], 1),
        )
        off = tile_of(screen, ones, slice(0, 8), 8) - cosines(queries, ones, weights)
        worst = (off.unflatten(1, shape) / weights.sqrt()).double()
        left, _, right = torch.linalg.svd(worst)
        along = unit(left[:, :, 0], right[:, 0], weights)

        check_bound(screen, queries, along, weights)


@pytest.mark.parametrize("turned", [False, True])
def test_rounding_that_all_points_the_same_way_stays_within_the_bound(turned) -> None:
    """Entries and products nearly halfway between two bfloat16 numbers are rounded towards zero together."""
    width, halfway = 1018, 1 + 2.0**-8
    weights = torch.full((1, width), width * halfway * (1 - 1e-6) / 1024, dtype=torch.float64)
    ones = [torch.ones(1, 1, dtype=torch.float64), torch.ones(1, width, dtype=torch.float64)]
    if turned:
        weights, ones = weights.T.contiguous(), ones[::-1]
    queries = unit(*ones, weights)

    for plan in plans(SCREENING_BFLOAT16, weights):
        check_bound(plan.made(queries, weights), queries, queries, weights)


def test_a_tile_of_some_queries_is_added_to_what_is_there() -> None:
    weights = torch.ones(2, 5, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    outputs, inputs = (torch.randn(9, size, dtype=torch.float64, generator=generator) for size in weights.shape)
    gradients = unit(outputs, inputs, weights)
    for plan in plans(SCREENING_FLOAT32, weights):
        screen = plan.made(gradients, weights)
        total = torch.full((3, 9), 2.0)

        screen.add(total, slice(4, 7), screen.sides(gradients))

        expected = cosines(gradients, gradients, weights)[4:7] + 2
        assert bool(((total - expected).abs() <= screen.error + screen.rounding.max().sqrt() + 1e-6).all())


@CASES
@given(shape=shapes, seed=seeds, rank=st.integers(1, 4))
def test_rounding_is_measured_as_entry_by_entry(shape, seed, rank) -> None:
    problem = rotated(seed, kind="kronecker", shapes=(shape,))
    weights = torch.from_numpy(problem.inverse().reshape(shape))
    queries = unit(*(torch.from_numpy(factor) for factor in problem.test[0]), weights)
    form = next(islice(low_rank_forms(weights), min(rank, *shape) - 1, None))
    for dtype in (torch.bfloat16, torch.float32):
        rounded = torch.stack([(queries.inputs * factors).to(dtype) for factors in form.input_factors])

        found = squared_rounding(queries, rounded, form, weights)

        errors = rounded.double() - queries.inputs * form.input_factors[:, None, :]
        apart = torch.einsum("ro,rmi,mo->moi", form.output_factors, errors, queries.outputs) / weights.sqrt()
        expected = apart.square().sum(dim=(1, 2))
        assert bool((found >= expected).all())
        if dtype == torch.bfloat16:
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-30)
        else:
            assert bool((found <= form.rank * form.amplification**2 * form.rank * SINGLE**2 + 1e-30).all())


@pytest.mark.parametrize("precision", [SCREENING_BFLOAT16, SCREENING_FLOAT32, FULL])
@CASES
@given(seed=seeds, kind=st.sampled_from(["plain", "spread", "kronecker"]))
def test_the_choice_is_the_cheapest_that_is_worth_having(seed, kind, precision) -> None:
    problem = rotated(seed, kind=kind, shapes=((10, 300),), test=3)
    weights = torch.from_numpy(problem.inverse().reshape(10, 300))
    queries = unit(*(torch.from_numpy(factor) for factor in problem.test[0]), weights)
    types = [precision] if precision.dtype == torch.float32 else [precision, SCREENING_FLOAT32]

    found = cheapest_screen(queries, weights, precision, forms_of(weights))

    others = [
        plan
        for each in types
        for plan in plans(each, weights)
        if plan.form is None or (plan.form.error <= precision.low_rank_tolerance and plan.error <= 0.1)
    ]
    least = min(plan.cost for plan in others if plan.form is not None or plan.precision == precision)
    chosen = [plan for plan in others if plan.error == found.error]
    assert min(plan.cost for plan in chosen) == least


def test_a_smooth_spectrum_takes_few_terms_and_a_rough_one_its_entries() -> None:
    smooth = 1 / (torch.outer(torch.logspace(-4, 0, 40), torch.logspace(-4, 0, 300)).double() + 1e-3)
    rough = 10 ** torch.empty(40, 300, dtype=torch.float64).uniform_(-3, 3, generator=torch.Generator().manual_seed(0))
    ones = FactoredGradients(torch.ones(2, 40, dtype=torch.float64), torch.ones(2, 300, dtype=torch.float64))

    few, all_of_them = (
        cheapest_screen(ones, weights, SCREENING_BFLOAT16, forms_of(weights)) for weights in (smooth, rough)
    )

    assert isinstance(few, TermsScreen)
    # In bfloat16 the parts of this spectrum would cancel too far.
    assert few.inputs.dtype == torch.float32
    assert few.passes < 15
    assert few.error < 0.05
    assert isinstance(all_of_them, EntriesScreen)
    assert all_of_them.passes == 40
    assert all_of_them.error < 0.015


def test_closer_sums_are_those_of_a_form_that_saves_much() -> None:
    smooth = 1 / (torch.outer(torch.logspace(-4, 0, 400), torch.logspace(-4, 0, 600)).double() + 1e-3)
    rough = 10 ** torch.empty(400, 600, dtype=torch.float64).uniform_(-3, 3, generator=torch.Generator().manual_seed(0))

    found = closest_form(forms_of(smooth), smooth.shape)

    assert found is not None
    assert found.error <= 1e-3
    assert 4 * (found.rank + 10) * (400 + 600) <= 400 * 600
    assert closest_form(forms_of(rough), rough.shape) is None
    # Of ten outputs the exact sums are as cheap.
    assert closest_form(forms_of(smooth[:10]), smooth[:10].shape) is None
