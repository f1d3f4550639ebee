"""Places of parameters: blocks to values and gradients to factors are transposes of one another."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.places import Bias, Column, Place, Row, Weight
from relatif.pipeline.curvature.sides import dense

torch.set_num_threads(1)

EXACT = 1e-12

PLACES: dict[str, tuple[Place, dict[str, tuple[int, int]]]] = {
    "row": (Row("b", 2, 6, (3,)), {"b": (1, 6)}),
    "scalar": (Row("b", 0, 1, ()), {"b": (1, 1)}),
    "column": (Column("b", (4,)), {"b": (4, 1)}),
    "bias of groups": (Bias(("a", "b"), 3, (4,)), {"a": (2, 3), "b": (2, 3)}),
    "weight": (Weight(("b",), (4, 3), (4, 3)), {"b": (4, 3)}),
    "weight with bias": (Weight(("b",), (4, 3), (4, 3), bias=True), {"b": (4, 4)}),
    "kernel of groups": (Weight(("a", "b"), (4, 3, 2), (4, 6), bias=True), {"a": (2, 7), "b": (2, 7)}),
    "table": (Weight(("b",), (5, 2), (5, 2), flipped=True), {"b": (2, 5)}),
    "flipped with bias": (Weight(("b",), (5, 2), (5, 2), flipped=True, bias=True), {"b": (2, 6)}),
    "flipped groups": (Weight(("a", "b"), (4, 3), (4, 3), flipped=True), {"a": (3, 2), "b": (3, 2)}),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_gradient_is_placed_where_its_parameter_is_read(name: str) -> None:
    place, shapes = PLACES[name]
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(3, *place.shape, generator=generator, dtype=torch.float64)

    placed: dict[str, Tensor] = {block: torch.zeros(3, *shape, dtype=torch.float64) for block, shape in shapes.items()}
    for block, use in place.dense(gradient):
        placed[block] += torch.einsum("nto,nti->noi", dense(use.outputs), dense(use.inputs))

    torch.testing.assert_close(place.values(placed), gradient, rtol=0, atol=EXACT)
    total = sum(float(each.square().sum()) for each in placed.values())
    assert abs(total - float(gradient.square().sum())) < EXACT * total


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("by_rows", [False, True])
def test_the_side_that_holds_gradients_is_told(*, flipped: bool, by_rows: bool) -> None:
    place = Weight(("b",), (5, 2), (5, 2), flipped=flipped)
    rows, columns = torch.ones(1, 3, 5), 2 * torch.ones(1, 3, 2)
    ((_, use),) = place.factors([rows], [columns], by_rows=by_rows)
    assert torch.equal(dense(use.gradients), rows if by_rows else columns)
    assert torch.equal(dense(use.seen), columns if by_rows else rows)
