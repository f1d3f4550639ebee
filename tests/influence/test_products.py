"""Products for a screen: the same as in float64, within what their type rounds, by either routine."""

import pytest
import torch

from relatif.pipeline.influence import products
from relatif.pipeline.influence.products import product

torch.set_num_threads(1)


@pytest.mark.parametrize("one_dnn", [True, False])
@pytest.mark.parametrize(("rows", "columns", "terms"), [(1, 1, 1), (7, 5, 3), (33, 40, 785), (128, 17, 9)])
def test_float32_products_are_within_their_sums_rounding(monkeypatch, rows, columns, terms, one_dnn) -> None:
    if one_dnn and not products._has_one_dnn:
        pytest.skip("this torch has no such product")
    monkeypatch.setattr(products, "_has_one_dnn", one_dnn)
    generator = torch.Generator().manual_seed(terms)
    left, right = (torch.randn(count, terms, generator=generator) for count in (rows, columns))

    found = product(left, right)

    assert found.dtype == torch.float32
    exact, sizes = left.double() @ right.double().T, left.abs().double() @ right.abs().double().T
    assert bool(((found - exact).abs() <= (terms + 1) * 2.0**-24 * sizes).all())


def test_narrow_products_are_rounded_to_their_type() -> None:
    left, right = torch.full((2, 4), 1.0).bfloat16(), torch.full((3, 4), 0.2501).bfloat16()

    found = product(left, right)

    assert found.dtype == torch.float32
    assert torch.equal(found, torch.full((2, 3), 4 * float(torch.tensor(0.2501).bfloat16())))


def test_a_routine_of_another_form_is_not_called(monkeypatch) -> None:
    """The routine is none that torch documents: a release may call it otherwise or leave it out."""

    def refuses(*_: object) -> None:
        raise RuntimeError("expected 7 arguments")

    def is_wrong(left: torch.Tensor, right: torch.Tensor, *_: object) -> torch.Tensor:
        return left @ right

    for other in (refuses, is_wrong):
        monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", other)
        assert not products._works()
