"""Positions and numbers of the page's columns."""

import numpy as np

from relatif.pipeline.report.page.columns import Positions, class_numbers, ids, numbers, rounded
from relatif.pipeline.report.page.tables import Examples


def test_a_row_keeps_the_position_that_it_got_first() -> None:
    positions = Positions()
    assert positions.of([7, 3, 7]) == [0, 1, 0]
    assert positions.of(np.array([3, 9])) == [1, 2]
    assert positions.rows == [7, 3, 9]
    assert positions.array.tolist() == [7, 3, 9]


def test_numbers_have_more_digits_than_are_shown_and_no_number_is_none() -> None:
    found = rounded([0.12345678, 12.0, -12345678.0, float("nan"), float("inf"), 3e-9, -0.0])
    assert found == [0.123457, 12, -12345700.0, None, None, 3e-09, 0]
    assert isinstance(found[1], int)


def test_numbers_end_where_they_do_when_they_are_rounded_once() -> None:
    # With four digits these are 6.805 and 7.795, which are shown as 6.80 and 7.79.
    assert [f"{value:.2f}" for value in rounded([6.80527, 7.79515])] == ["6.81", "7.80"]


def test_columns_that_a_table_lacks_are_none() -> None:
    examples = Examples(np.arange(2), {"loss": np.array([1.0, 2.0])}, {"label": np.array([3, -1], np.int32)})
    places = np.array([1, 0])
    assert numbers(examples, "loss", places) == [2, 1]
    assert numbers(examples, "probability", places) is None
    assert class_numbers(examples, "label", places) == [None, 3]
    assert class_numbers(examples, "explained_label", places) is None
    assert ids({0: "a"}, [0, 1]) == ["a", None]
    assert ids(None, [0]) is None
