"""Every form of per-example gradients against plain loops over examples, positions and entries."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relatif.pipeline.curvature import forms as forms_file
from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.curvature.gradients import concatenate, layer_gradients
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.positions import PositionGradients, UnsummedGradients
from tests.reference.softmax import Array

torch.set_num_threads(1)

ROUNDING = 1e-12
"""Relative to the largest entry: float64 sums of at most a few hundred terms."""

CASES = settings(max_examples=30, deadline=None)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is formed part by part take several parts."""
    monkeypatch.setattr(forms_file, "PART_ENTRIES", 20)


sizes = st.tuples(*[st.integers(1, 5)] * 4)
seeds = st.integers(0, 2**32 - 1)


def assert_close(found: torch.Tensor, expected: Array) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, rtol=ROUNDING, atol=ROUNDING * np.abs(expected).max())


def random_factors(size: tuple[int, int, int, int], seed: int) -> tuple[np.random.Generator, Array, Array]:
    """Return output gradients [N, T, O] and inputs [N, T, I]."""
    examples, positions, outputs, inputs = size
    rng = np.random.default_rng(seed)
    shapes = ((examples, positions, outputs), (examples, positions, inputs))
    return rng, *(rng.standard_normal(shape) for shape in shapes)


def summed_outer_products(deltas: Array, inputs: Array) -> Array:
    """Return the gradients [N, O, I], position by position."""
    return np.array(
        [sum(np.outer(d, a) for d, a in zip(*example, strict=True)) for example in zip(deltas, inputs, strict=True)]
    )


def forms(deltas: Array, inputs: Array) -> list[LayerGradients]:
    """Return the same gradients in every form that can hold them, first in the one that is chosen."""
    use = torch.from_numpy(deltas), torch.from_numpy(inputs)
    halves = deltas.shape[1] // 2
    held: list[LayerGradients] = [layer_gradients([Factors(*use)]), PositionGradients((use,))]
    held.append(UnsummedGradients(PositionGradients((use,))))
    if halves:
        held.append(PositionGradients(tuple((use[0][:, some], use[1][:, some]) for some in _cut(halves))))
    held.append(DenseGradients(torch.from_numpy(summed_outer_products(deltas, inputs))))
    return held


def _cut(place: int) -> tuple[slice, slice]:
    return slice(place), slice(place, None)


@CASES
@given(sizes, seeds)
def test_gradients_are_outer_products_summed_over_positions(size, seed) -> None:
    _, deltas, inputs = random_factors(size, seed)

    found = layer_gradients([Factors(torch.from_numpy(deltas), torch.from_numpy(inputs))])

    assert found.shape == (size[2], size[3])
    assert_close(found.dense(), summed_outer_products(deltas, inputs))


def test_uses_are_summed() -> None:
    _, deltas, inputs = random_factors((3, 1, 4, 5), 0)
    _, more_deltas, more_inputs = random_factors((3, 2, 4, 5), 1)
    both = [(deltas, inputs), (more_deltas, more_inputs)]

    found = layer_gradients([Factors(torch.from_numpy(d), torch.from_numpy(a)) for d, a in both])

    assert_close(found.dense(), sum(summed_outer_products(*each) for each in both))


@pytest.mark.parametrize(("positions", "form"), [(1, FactoredGradients), (2, UnsummedGradients)])
def test_factors_are_kept_at_one_position(positions, form) -> None:
    _, deltas, inputs = random_factors((3, positions, 4, 5), 0)

    assert isinstance(layer_gradients([Factors(torch.from_numpy(deltas), torch.from_numpy(inputs))]), form)


@CASES
@given(sizes, seeds)
def test_rotation_is_a_product_from_both_sides(size, seed) -> None:
    rng, deltas, inputs = random_factors(size, seed)
    left, right = rng.standard_normal((size[2], size[2])), rng.standard_normal((size[3], size[3]))
    expected = np.array([left.T @ gradient @ right for gradient in summed_outer_products(deltas, inputs)])

    of_outputs = np.array([left.T @ gradient for gradient in summed_outer_products(deltas, inputs)])

    for gradients in forms(deltas, inputs):
        assert_close(gradients.rotate(torch.from_numpy(left), torch.from_numpy(right)).dense(), expected)
        assert_close(gradients.rotate(torch.from_numpy(left), None).dense(), of_outputs)
        assert_close(
            gradients.rotate(None, torch.from_numpy(right)).rotate(torch.from_numpy(left), None).dense(), expected
        )


@CASES
@given(sizes, seeds)
def test_parts_cover_every_entry_once(size, seed) -> None:
    _, deltas, inputs = random_factors(size, seed)
    expected = summed_outer_products(deltas, inputs)

    for gradients in forms(deltas, inputs):
        parts = list(gradients.parts(gradients.count))
        assert gradients.count == size[0]
        assert_close(torch.cat([gradients.entries(part) for part in parts], dim=1), expected)
        assert_close(gradients.rows(slice(0, 1)).dense(), expected[:1])


@CASES
@given(sizes, seeds)
def test_moments_and_norms_are_weighted_sums_of_squares(size, seed) -> None:
    rng, deltas, inputs = random_factors(size, seed)
    squares = summed_outer_products(deltas, inputs) ** 2
    of_examples, of_entries = rng.uniform(0, 2, size[0]), rng.uniform(0, 2, (size[2], size[3]))
    moments = sum(weight * square for weight, square in zip(of_examples, squares, strict=True))
    norms = np.array([float((of_entries * square).sum()) for square in squares])

    for gradients in forms(deltas, inputs):
        assert_close(gradients.squared_moments(torch.from_numpy(of_examples)), moments)
        found = gradients.weighted_norms(torch.from_numpy(of_entries), gradients.ones())
        assert_close(found, np.array([norms, squares.sum(axis=(1, 2))]))


@CASES
@given(sizes, st.integers(1, 5), seeds)
def test_inner_products_of_any_two_forms(size, others, seed) -> None:
    rng, deltas, inputs = random_factors(size, seed)
    _, other_deltas, other_inputs = random_factors((others, *size[1:]), seed + 1)
    weights = rng.uniform(0, 2, (size[2], size[3]))
    mine, theirs = summed_outer_products(deltas, inputs), summed_outer_products(other_deltas, other_inputs)
    expected = np.array([[float((weights * a * b).sum()) for b in theirs] for a in mine])

    for one in forms(deltas, inputs):
        for other in forms(other_deltas, other_inputs):
            assert_close(one.inner_products(torch.from_numpy(weights), other), expected)


def test_batches_of_any_form_are_joined_in_order() -> None:
    _, deltas, inputs = random_factors((5, 1, 3, 4), 7)
    expected = summed_outer_products(deltas, inputs)
    first, second = forms(deltas[:2], inputs[:2]), forms(deltas[2:], inputs[2:])

    kept = concatenate([first[0], second[0]])
    assert isinstance(kept, FactoredGradients)
    assert isinstance(concatenate([first[0], second[1]]), PositionGradients)
    for one in first:
        for other in second:
            assert_close(concatenate([one, other]).dense(), expected)


def test_batches_of_other_lengths_are_joined() -> None:
    _, deltas, inputs = random_factors((5, 4, 3, 6), 7)
    deltas[:2, 3:] = 0
    cut = PositionGradients(((torch.from_numpy(deltas[:2, :3]), torch.from_numpy(inputs[:2, :3])),))
    whole = PositionGradients(((torch.from_numpy(deltas[2:]), torch.from_numpy(inputs[2:])),))

    found = concatenate([cut, whole])

    assert isinstance(found, PositionGradients)
    assert_close(found.dense(), summed_outer_products(deltas, inputs))


def test_ones_have_the_gradients_type() -> None:
    _, deltas, inputs = random_factors((2, 1, 3, 4), 0)

    for gradients in forms(deltas.astype(np.float32), inputs.astype(np.float32)):
        assert gradients.ones().dtype == gradients.dense().dtype
        assert gradients.weighted_norms(gradients.ones()).dtype == torch.float64
        np.testing.assert_array_equal(gradients.ones().numpy(), np.ones((3, 4)))
