"""One-hot rows that are not formed, against the same rows formed."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature import sides
from relatif.pipeline.curvature.sides import OneHot, Side

torch.set_num_threads(1)

N, T, D = 4, 5, 7


def drawn(seed: int = 0) -> tuple[OneHot, Tensor]:
    """Return one-hot rows, some of weight zero, and the same formed by a loop."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, D, (N, T), generator=generator)
    weights = torch.randint(0, 3, (N, T), generator=generator).double() / 2
    formed = torch.zeros(N, T, D, dtype=torch.float64)
    for n in range(N):
        for t in range(T):
            formed[n, t, ids[n, t]] = weights[n, t]
    return OneHot(ids, D, weights), formed


def close(found: Side, expected: Tensor) -> None:
    torch.testing.assert_close(sides.dense(found), expected, rtol=1e-13, atol=1e-13)


def test_what_a_side_tells_of_itself() -> None:
    for side in drawn():
        assert (sides.width_of(side), sides.positions_of(side), sides.numbers_of(side).dtype) == (D, T, torch.float64)
    assert [sides.bytes_of(side) for side in drawn()] == [N * T * 16, N * T * D * 8]


def test_rows_places_and_rotations_are_those_of_the_formed_rows() -> None:
    hot, formed = drawn()
    basis = torch.randn(D, 3, dtype=torch.float64)

    close(hot, formed)
    close(sides.rows_of(hot, slice(1, 3)), formed[1:3])
    close(sides.rotated(hot, basis), formed @ basis)
    assert sides.rotated(hot, None) is hot
    for chosen in (slice(2, 5), torch.tensor([0, 3, 6])):
        close(sides.chosen_places(hot, chosen), formed[..., chosen])
        close(sides.chosen_places(formed, chosen), formed[..., chosen])


def test_sides_are_joined_along_positions_and_rows() -> None:
    (one, formed_one), (two, formed_two) = drawn(1), drawn(2)

    positions = sides.joined_positions([one, two])
    assert positions is not None
    close(positions, torch.cat([formed_one, formed_two], dim=1))
    close(sides.joined_rows([one, two]), torch.cat([formed_one, formed_two]))
    assert sides.joined_positions([one, formed_two]) is None
    shorter = OneHot(two.ids[:, :3], D, two.weights[:, :3])
    padded = torch.cat([formed_two[:, :3], torch.zeros(N, 2, D, dtype=torch.float64)], dim=1)
    close(sides.joined_rows([one, shorter]), torch.cat([formed_one, padded]))


def test_moment_of_one_hot_rows_is_the_diagonal_of_the_formed_ones_moment() -> None:
    hot, formed = drawn()
    weights = torch.rand(N, dtype=torch.float64)
    expected = torch.einsum("n,nti,ntj->ij", weights, formed, formed)

    found = sides.moment(hot, weights)

    close_to(found.diag(), expected)
    close_to(sides.moment(formed, weights), expected)
    close_to(sides.added_moments(found, found), 2 * expected.diag())
    for pair in ((found, expected), (expected, found), (expected, expected)):
        close_to(sides.added_moments(*pair), 2 * expected)


def test_a_side_wider_than_the_limit_has_the_diagonal_of_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    values, weights = torch.randn(N, T, D, dtype=torch.float64), torch.rand(N, dtype=torch.float64)
    whole = sides.moment(values, weights)
    assert whole.shape == (D, D)

    monkeypatch.setattr(sides, "WIDEST_MOMENT", D - 1)

    close_to(sides.moment(values, weights), whole.diagonal())


def test_products_with_vectors() -> None:
    vectors, back = torch.randn(2, 3, D, dtype=torch.float64), torch.randn(N, 2, T, 3, dtype=torch.float64)
    hot, formed = drawn()

    close_to(sides.applied(hot, vectors), torch.einsum("nti,roi->nrto", formed, vectors))
    close_to(sides.collected(back, hot), torch.einsum("nrto,nti->roi", back, formed))


def close_to(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
