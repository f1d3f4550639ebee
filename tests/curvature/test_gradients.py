"""Which form gradients are held in, by their sizes; the forms themselves have tests of their own."""

import pytest
import torch

from relatif.pipeline.curvature.forms import FactoredGradients, LayerGradients
from relatif.pipeline.curvature.gradients import layer_gradients
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.positions import PositionGradients, UnsummedGradients
from relatif.pipeline.curvature.sides import OneHot, Side, dense
from relatif.pipeline.curvature.sparse import SparseGradients

torch.set_num_threads(1)


def plain(positions: int, width: int) -> torch.Tensor:
    return torch.randn(2, positions, width, generator=torch.Generator().manual_seed(width), dtype=torch.float64)


def words(positions: int, width: int) -> OneHot:
    ids = torch.randint(0, width, (2, positions), generator=torch.Generator().manual_seed(width))
    return OneHot(ids, width, torch.ones(2, positions, dtype=torch.float64))


@pytest.mark.parametrize(
    ("uses", "form"),
    [
        ([(plain(1, 4), plain(1, 5))], FactoredGradients),
        ([(plain(1, 600), plain(1, 700))], FactoredGradients),
        ([(plain(2, 4), plain(2, 5))], UnsummedGradients),
        ([(plain(2, 600), plain(2, 700))], PositionGradients),
        # Factors of many positions are larger than the sum of their products.
        ([(plain(330, 600), plain(330, 700))], UnsummedGradients),
        ([(plain(1, 600), plain(1, 700)), (plain(1, 600), plain(1, 700))], PositionGradients),
        ([(plain(3, 4), words(3, 7))], UnsummedGradients),
        ([(plain(3, 4), words(3, 70000))], SparseGradients),
        ([(plain(1, 4), words(1, 70000))], SparseGradients),
        # A text longer than half its vocabulary.
        ([(plain(300, 600), words(300, 500))], PositionGradients),
        ([(words(3, 6), plain(3, 5)), (plain(2, 6), plain(2, 5))], UnsummedGradients),
        ([(words(3, 60000), plain(3, 5)), (plain(2, 60000), plain(2, 5))], PositionGradients),
    ],
)
def test_the_smallest_form_is_chosen(uses: list[tuple[Side, Side]], form: type[LayerGradients]) -> None:
    found = layer_gradients([Factors(*use) for use in uses])

    assert isinstance(found, form)
    if form is not SparseGradients and found.shape[0] < 10_000:
        expected = sum(torch.einsum("nto,nti->noi", dense(outputs), dense(inputs)) for outputs, inputs in uses)
        torch.testing.assert_close(found.dense(), expected)
