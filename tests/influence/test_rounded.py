"""Rounded gradients: every cosine and distance lies within its bounds, by float64 on what was rounded."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.influence.meeting import whitened_norms
from relatif.pipeline.influence.rounded import (
    Rounded,
    distance_bounds,
    product_type,
    rounded,
    rounded_features,
    rounded_queries,
    rounding_errors,
)

QUERIES, TRAINING = 5, 40
SHAPES = {"factored": (4, 9), "dense": (3, 7), "other": (6, 5)}
TYPES = [torch.bfloat16, torch.float32]


def gradients(count: int, kind: str, seed: int) -> dict[str, LayerGradients]:
    """Gradients of a factored and two dense layers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        values = torch.randn(*shape, generator=generator, dtype=torch.float64)
        if kind == "wide":  # entries from 1e-20 to 1e20
            return values * 10 ** (torch.rand(*shape, generator=generator, dtype=torch.float64) * 40 - 20)
        if kind == "halves":  # midway between two numbers of bfloat16: rounded as far as can be
            return values.sign() * (1 + 2.0**-8 + 2.0**-30)
        return values * 1e-160 if kind == "tiny" else values

    made: dict[str, LayerGradients] = {}
    for name, (outputs, inputs) in SHAPES.items():
        if name == "factored":
            made[name] = FactoredGradients(draw(count, outputs), draw(count, inputs))
        else:
            made[name] = DenseGradients(draw(count, outputs, inputs))
    return made


def plain(batch: dict[str, LayerGradients]) -> Tensor:
    return torch.cat([each.dense().flatten(1) for each in batch.values()], dim=1)


def weights_of(kind: str) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(9)
    spread = 12 if kind == "rough" else 1
    return {
        name: 10 ** (torch.rand(*shape, generator=generator, dtype=torch.float64) * spread)
        for name, shape in SHAPES.items()
    }


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("curvature", ["smooth", "rough"])
@pytest.mark.parametrize("kind", ["normal", "wide", "halves", "tiny"])
def test_cosines_lie_within_their_bounds(dtype: torch.dtype, curvature: str, kind: str) -> None:
    queries, training, weights = gradients(QUERIES, kind, 1), gradients(TRAINING, kind, 2), weights_of(curvature)
    training["dense"].values[3] = 0  # type: ignore[attr-defined]
    lengths = plain(training).norm(dim=1)
    norms, others = whitened_norms(weights, queries), whitened_norms(weights, training)
    kept = rounded(training, lengths, dtype)
    (errors,) = rounding_errors(training, lengths, kept, [weights])
    posed = rounded_queries(queries, weights, norms, product_type(dtype), ["factored"])
    tile, sizes = posed.tile(kept)
    ratios = lengths / others
    cosines = (tile.double() * ratios[:, None]).T
    whole = torch.cat([each.flatten() for each in weights.values()])
    mine, theirs = plain(queries) / norms[:, None], plain(training) / others[:, None]
    exact = (mine * whole) @ theirs.T
    bounds = posed.bounds(sizes, errors, ratios).T
    assert bool(((cosines - exact).abs() <= bounds + 1e-6 * cosines.abs()).all())
    # A bound that says nothing would pass: these say a lot wherever numbers are not spread over 40 decades.
    if kind != "wide":
        assert float(bounds.max()) < (2e-2 if dtype == torch.bfloat16 else 1e-4)


def test_what_rounding_changes_is_measured() -> None:
    training, weights = gradients(TRAINING, "normal", 3), weights_of("rough")
    lengths = plain(training).norm(dim=1)
    kept = rounded(training, lengths, torch.bfloat16)
    outputs, inputs = (each.double() for each in kept.factored["factored"])
    assert kept.dense is not None
    near = torch.cat([(outputs[:, :, None] * inputs[:, None]).flatten(1), kept.dense.double()], dim=1)
    whole = torch.cat([each.flatten() for each in weights.values()])
    unit = plain(training) / lengths[:, None]
    apart = ((near - unit).square() @ whole).sqrt() / (unit.square() @ whole).sqrt()
    plainly, found = rounding_errors(training, lengths, kept, [weights_of("smooth"), weights])
    assert bool((found >= apart).all())
    assert torch.allclose(found, apart, rtol=1e-3)
    assert not torch.allclose(plainly, apart, rtol=1e-3)


def test_a_gradient_of_zero_stays_zero() -> None:
    training = {name: each.rows(slice(0, 2)) for name, each in gradients(3, "normal", 4).items()}
    zeros: dict[str, LayerGradients] = {
        name: DenseGradients(each.dense() * 0)
        if name != "factored"
        else FactoredGradients(torch.zeros(2, 4).double(), torch.zeros(2, 9).double())
        for name, each in training.items()
    }
    kept = rounded(zeros, torch.zeros(2).double(), torch.bfloat16)
    assert isinstance(kept, Rounded)
    assert not bool(kept.dense.any())  # type: ignore[union-attr]
    (errors,) = rounding_errors(zeros, torch.zeros(2).double(), kept, [weights_of("smooth")])
    assert errors.tolist() == [0, 0]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("kind", ["normal", "far from 0", "codes", "equal"])
def test_distances_lie_within_their_bounds(dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    training, queries = torch.randn(TRAINING, 11, generator=generator), torch.randn(QUERIES, 11, generator=generator)
    if kind == "far from 0":
        training, queries = training + 300, queries + 300
    if kind == "codes":
        training, queries = (
            torch.randint(0, 50_000, each.shape, generator=generator).float() for each in (training, queries)
        )
    if kind == "equal":
        training = queries[0].expand(TRAINING, 11) + 1e-4 * training
    lower, upper = distance_bounds(rounded_features(queries, dtype), rounded_features(training, dtype))
    exact = (queries.double()[:, None] - training.double()).norm(dim=2)
    assert bool((lower <= exact).all())
    assert bool((upper >= exact).all())
    if kind == "normal":
        assert float((upper - lower).max()) < (0.5 if dtype == torch.bfloat16 else 1e-2)


def test_a_type_whose_products_are_not_summed_in_float32_is_widened(monkeypatch: pytest.MonkeyPatch) -> None:
    assert product_type(torch.float32) == torch.float32
    monkeypatch.setattr("relatif.pipeline.influence.rounded._sums_in_single", lambda _: False)
    assert product_type(torch.bfloat16) == torch.float32
    training, weights = gradients(TRAINING, "normal", 2), weights_of("smooth")
    kept = rounded(training, plain(training).norm(dim=1), torch.bfloat16)
    posed = rounded_queries(gradients(2, "normal", 1), weights, torch.ones(2).double(), torch.float32, ["factored"])
    assert posed.tile(kept)[0].shape == (TRAINING, 2)
