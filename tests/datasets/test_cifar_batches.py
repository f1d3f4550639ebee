"""Batches of both versions give the same images; whatever is no batch is told by name."""

import numpy as np
import pytest

from relatif.pipeline.datasets.cifar_batches import (
    BatchesMeta,
    parse_binary_batch,
    parse_binary_meta,
    parse_python_batch,
    parse_python_meta,
)
from relatif.schemas.errors import DataError
from tests.reference.cifar import (
    NAMES,
    array,
    binary_batch,
    items,
    made_up_batches,
    mapping,
    number,
    python_batch,
    python_meta,
    text,
)

ROWS = made_up_batches(7)["test_batch"]


def test_both_versions_keep_planes_of_red_green_and_blue() -> None:
    images, labels = ROWS
    python, binary = (
        parse_python_batch(python_batch(ROWS, "a title"), "here"),
        parse_binary_batch(binary_batch(ROWS), ""),
    )
    for batch in (python, binary):
        assert batch.images.shape == (7, 3, 32, 32)
        assert batch.images[5, 2, 3, 4] == images[5, 2 * 1024 + 3 * 32 + 4]
        assert np.array_equal(batch.images.reshape(7, -1), images)
        assert batch.labels.tolist() == labels
    assert (python.title, binary.title) == ("a title", None)


@pytest.mark.parametrize("cut", [0, 1, 3072, 3074, -1])
def test_a_binary_batch_of_no_whole_rows_is_refused(cut: int) -> None:
    with pytest.raises(DataError, match=r"rows of 3073 bytes at here, found \d+ bytes .truncated"):
        parse_binary_batch(binary_batch(ROWS)[:cut], "here")


def test_labels_outside_the_classes_are_named_with_their_row() -> None:
    images, labels = ROWS
    wrong = (images, [*labels[:4], 10, *labels[5:]])
    with pytest.raises(DataError, match="from 0 to 9 at here, found 10 in row 4"):
        parse_binary_batch(binary_batch(wrong), "here")
    with pytest.raises(DataError, match="from 0 to 9 at here, found 10 in row 4"):
        parse_python_batch(python_batch(wrong, ""), "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": array(ROWS[0]), "fine_labels": items([])}, "found data, fine_labels; give a batch"),
        ({"label_names": items([text("cat")])}, "found label_names"),
        ({"data": array(ROWS[0]), "labels": items([number(1)])}, r"shape \(7, 3072\) and 1 labels"),
        ({"data": array(ROWS[0][:, :100]), "labels": items([number(1)] * 7)}, r"shape \(7, 100\) and 7 labels"),
        ({"data": array(ROWS[0][:0]), "labels": items([])}, r"shape \(0, 3072\) and 0 labels"),
        ({"data": array(ROWS[0]), "labels": items([text("cat")] * 7)}, "found b'cat' in row 0"),
    ],
)
def test_other_dicts_are_no_batch(content: dict[str, bytes], message: str) -> None:
    with pytest.raises(DataError, match=f"at here, .*{message}"):
        parse_python_batch(mapping(content), "here")


def test_metadata_of_both_versions() -> None:
    assert parse_python_meta(python_meta(7), "here") == BatchesMeta(tuple(NAMES), 7)
    assert parse_binary_meta("\r\n".join(NAMES).encode() + b"\n\n", "here") == BatchesMeta(tuple(NAMES))


@pytest.mark.parametrize("names", [NAMES[:9], [*NAMES[:9], "cat"], [*NAMES, "lamp"], []])
def test_other_than_ten_names_are_refused(names: list[str]) -> None:
    with pytest.raises(DataError, match=f"names of 10 classes at here, found {len(names)}"):
        parse_python_meta(python_meta(7, names), "here")
    with pytest.raises(DataError, match=f"names of 10 classes at here, found {len(names)}"):
        parse_binary_meta("\n".join(names).encode(), "here")


def test_another_dict_is_no_metadata() -> None:
    with pytest.raises(
        DataError, match="'label_names' and a number 'num_cases_per_batch' at here, found fine_label_names"
    ):
        parse_python_meta(mapping({"fine_label_names": items([text("apple")])}), "here")
