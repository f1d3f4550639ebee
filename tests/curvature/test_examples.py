"""Rows of a data set with their targets: cut within the batch, numbered within the data set."""

import pytest
import torch

from relatif.pipeline.curvature.examples import Examples
from relatif.schemas.errors import DataError

EXAMPLES = Examples(torch.arange(14).reshape(7, 2), torch.arange(100, 107), 40)


@pytest.mark.parametrize("targets", [torch.zeros(6), torch.zeros(8, 2), torch.zeros(0)])
def test_unequal_lengths_are_refused(targets: torch.Tensor) -> None:
    with pytest.raises(DataError, match=rf"a target for each of 7 inputs, found {len(targets)}; give equally many"):
        Examples(torch.zeros(7, 2), targets, 0)


def test_targets_may_have_any_shape_and_there_may_be_none() -> None:
    assert len(Examples(torch.zeros(7, 2), torch.zeros(7, 3), 5)) == 7
    assert len(Examples(torch.zeros(0, 2), torch.zeros(0), 5)) == 0


@pytest.mark.parametrize(("start", "stop"), [(0, 7), (0, 3), (3, 7), (5, 6)])
def test_rows_keep_their_number_in_the_data_set(start: int, stop: int) -> None:
    part = EXAMPLES.rows(start, stop)
    assert len(part) == stop - start
    assert part.first_index == 40 + start
    assert part.inputs.tolist() == [[2 * row, 2 * row + 1] for row in range(start, stop)]
    assert part.targets.tolist() == [100 + row for row in range(start, stop)]


def test_rows_beyond_the_last_are_not_there() -> None:
    assert EXAMPLES.rows(5, 99).targets.tolist() == [105, 106]


def test_rows_of_rows_are_counted_from_the_first_of_them() -> None:
    part = EXAMPLES.rows(2, 6).rows(1, 3)
    assert (part.first_index, part.targets.tolist()) == (43, [103, 104])
