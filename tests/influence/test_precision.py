"""Precisions of screening: their units are those of IEEE arithmetic, and the choice is one of speed."""

import pytest
import torch

from relatif.pipeline.influence.precision import (
    FLOAT32_UNIT,
    FULL,
    SCREENING_BFLOAT16,
    SCREENING_FLOAT32,
    Precision,
    screening_precision,
)

torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_the_unit_bounds_rounding(dtype) -> None:
    """The worst case is halfway between 1 and the next number; nothing rounds worse."""
    unit = Precision(dtype, 1e-2).unit
    halfway = torch.tensor(1 + unit, dtype=torch.float64) if dtype != torch.float64 else None
    values = 10 ** torch.empty(100_000, dtype=torch.float64).uniform_(-3, 3, generator=torch.Generator().manual_seed(0))

    errors = ((values.to(dtype).double() - values) / values).abs()

    assert float(errors.max()) <= unit
    if halfway is not None:
        assert float(errors.max()) > 0.9 * unit
        assert halfway.to(dtype).item() == 1
        assert (halfway + unit / 100).to(dtype).item() > 1


def test_the_smallest_number_above_one_is_two_units_away() -> None:
    one = torch.tensor(1.0)

    assert torch.nextafter(one, 2 * one).item() - 1 == 2 * FLOAT32_UNIT == 2 * SCREENING_FLOAT32.unit
    assert SCREENING_BFLOAT16.unit == 2.0**-8


def test_the_dense_matrix_is_not_screened_narrowly() -> None:
    assert FULL.dtype == torch.float32
    assert FULL.low_rank_tolerance <= 2 * FLOAT32_UNIT


def test_screening_is_one_of_two_and_named_by_speed(monkeypatch) -> None:
    assert screening_precision("cpu") in (SCREENING_BFLOAT16, SCREENING_FLOAT32)

    clock = [0.0]
    multiply = torch.Tensor.__matmul__

    def timed(slow: torch.dtype):
        def product(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
            clock[0] += 3.0 if one.dtype == slow else 1.0
            return multiply(one, other)

        return product

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    for slow, expected in ((torch.float32, SCREENING_BFLOAT16), (torch.bfloat16, SCREENING_FLOAT32)):
        monkeypatch.setattr(torch.Tensor, "__matmul__", timed(slow))
        assert screening_precision("cpu") == expected
