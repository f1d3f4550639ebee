"""Pieces of a shard: complete, in order, cut by the model alone; what is said of an example names its row."""

import pytest
import torch
from torch import nn

from relatif.pipeline import devices
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.kronecker import kronecker_sums
from relatif.pipeline.curvature.pieces import piece_rows, pieces
from relatif.schemas.errors import NumericalError
from tests.support.curvatures import subject_of

FEATURES, CLASSES, ROWS, FIRST = 4, 3, 23, 1000
BYTES = 8 * (FEATURES + 1 + CLASSES)
"""What an example's only layer sees, a bias's constant 1 with it, and sends."""
TOLERANCE = 1e-12
"""Relative to the largest entry: the same few terms in another order."""


def examples(rows: int = ROWS) -> Examples:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(rows, FEATURES, generator=generator, dtype=torch.float64)
    return Examples(inputs, torch.randint(CLASSES, (rows,), generator=generator), FIRST)


def linear() -> nn.Linear:
    torch.manual_seed(1)
    return nn.Linear(FEATURES, CLASSES).double()


@pytest.mark.parametrize(("limit", "rows"), [(10 * BYTES, 10), (11 * BYTES - 1, 10), (BYTES, 1), (1, 1)])
def test_a_piece_holds_as_many_examples_as_fit(monkeypatch: pytest.MonkeyPatch, limit: int, rows: int) -> None:
    monkeypatch.setattr(devices, "CPU_PIECE_BYTES", limit)
    assert piece_rows(subject_of(linear(), CLASSES), examples()) == rows


def test_pieces_are_all_examples_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "CPU_PIECE_BYTES", 10 * BYTES)
    whole = examples()

    found = list(pieces(subject_of(linear(), CLASSES), whole))

    assert [len(piece.inputs) for piece in found] == [10, 10, 3]
    assert [piece.first_index for piece in found] == [FIRST, FIRST + 10, FIRST + 20]
    assert torch.equal(torch.cat([piece.inputs for piece in found]), whole.inputs)
    assert torch.equal(torch.cat([piece.targets for piece in found]), whole.targets)


def test_sums_of_pieces_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    subject = subject_of(linear(), CLASSES)
    whole = kronecker_sums(subject, examples()).layers[""]
    monkeypatch.setattr(devices, "CPU_PIECE_BYTES", 10 * BYTES)

    cut = kronecker_sums(subject, examples())

    assert cut.count == ROWS
    for side in ("input_moment", "output_moment"):
        mine, other = getattr(cut.layers[""], side), getattr(whole, side)
        torch.testing.assert_close(mine, other, rtol=0, atol=TOLERANCE * float(other.abs().max()))


@pytest.mark.parametrize("row", [0, 15])
def test_an_output_that_is_not_finite_is_named_by_its_row(monkeypatch: pytest.MonkeyPatch, row: int) -> None:
    monkeypatch.setattr(devices, "CPU_PIECE_BYTES", 10 * BYTES)
    broken = examples()
    broken.inputs[row, 0] = torch.nan

    with pytest.raises(NumericalError, match=f"found row {FIRST + row} "):
        kronecker_sums(subject_of(linear(), CLASSES), broken)
