"""Kronecker sums of blocks with several uses: each against its definition."""

import torch

from relatif.pipeline.curvature.kronecker import LayerSums

torch.set_num_threads(1)


def moment(width: int, seed: int) -> torch.Tensor:
    rows = torch.randn(7, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows.T @ rows


def partial_traces(product: torch.Tensor, outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    cube = product.reshape(outputs, inputs, outputs, inputs)
    return cube.diagonal(dim1=0, dim2=2).sum(-1), cube.diagonal(dim1=1, dim2=3).sum(-1)


def test_uses_of_both_kinds_give_the_product_with_the_sums_partial_traces() -> None:
    mine, other = LayerSums(moment(3, 0), moment(2, 1)), LayerSums(moment(3, 2), moment(2, 3))
    whole = sum(torch.kron(each.output_moment, each.input_moment) for each in (mine, other))
    found = LayerSums(mine.input_moment, mine.output_moment, other).single()

    product = torch.kron(found.output_moment, found.input_moment)

    assert found.transposed is None
    for one, two in zip(partial_traces(product, 2, 3), partial_traces(whole, 2, 3), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=1e-12 * float(two.abs().max()))


def test_a_product_alone_stays_as_it_is() -> None:
    alone = LayerSums(moment(3, 0), moment(2, 1))

    assert alone.single() is alone


def test_uses_of_both_kinds_merge() -> None:
    one = LayerSums(moment(3, 0), moment(2, 1), LayerSums(moment(3, 2), moment(2, 3)))
    merged = one.merge(one).to("cpu")

    assert merged.transposed is not None
    assert torch.equal(merged.transposed.input_moment, 2 * moment(3, 2))
    assert torch.equal(merged.output_moment, 2 * moment(2, 1))
