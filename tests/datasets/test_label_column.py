"""Labels are whole numbers of classes; only test inputs may be without one, where the data set says so."""

import pyarrow as pa
import pytest

from relatif.pipeline.datasets.label_column import LARGEST_LABEL, UNLABELLED, Allowed, allowed_labels, read_labels
from relatif.schemas.errors import DataError
from tests.support.images import subject
from tests.support.labelled import described

CLASSES = Allowed(3, null=False)


@pytest.mark.parametrize(
    ("labels", "found", "row"),
    [([0, 4, 9], "4", 11), ([0, -1], "-1", 11), ([3, 3, 2**31 - 1], "2147483647", 12), ([0, None, 7], "none", 11)],
)
def test_a_label_that_is_not_allowed_is_named_by_its_row(labels: list[int | None], found: str, row: int) -> None:
    with pytest.raises(DataError, match=f"labels from 0 to 3 in here, found {found} in row {row}"):
        read_labels(pa.array(labels, pa.int32()), CLASSES, "here", 10)


def test_missing_labels_are_told_from_classes() -> None:
    column = pa.array([0, None, 3], pa.int32())
    assert read_labels(column, Allowed(3, null=True), "here", 0).tolist() == [0, UNLABELLED, 3]
    with pytest.raises(DataError, match="found -1 in row 0"):
        read_labels(pa.array([UNLABELLED], pa.int32()), Allowed(3, null=True), "here", 0)


def test_classes_bound_labels_and_counts_are_bounded_by_their_column() -> None:
    assert allowed_labels(described(subject((2, 2), 4), unlabelled=None), "test") == CLASSES
    assert allowed_labels(described(subject((2, 2), 4), unlabelled=2), "test") == Allowed(3, null=True)
    assert allowed_labels(described(subject((2, 2), 4), unlabelled=2), "train") == CLASSES
    assert allowed_labels(described(subject((2, 2), 0), unlabelled=None), "train") == Allowed(LARGEST_LABEL, null=False)
