"""Tensors of one example are taken where the data could hold them, and refused by name otherwise."""

from typing import Any

import pytest
import torch

from relatif.pipeline.datasets.description import InputDescription, Subject
from relatif.pipeline.datasets.given.tensors import stored_tensors, tensor_of
from relatif.pipeline.datasets.provenance import Provenance
from relatif.schemas.errors import DataError


def subject(*inputs: dict[str, Any]) -> Subject:
    described = [
        InputDescription.model_validate({"column": f"input_{place}", **each}) for place, each in enumerate(inputs)
    ]
    more = tuple(described[1:]) or None
    provenance = Provenance(origin="made up", licence="none", licence_url="", sources=())
    return Subject(
        name="own",
        meaning="made up",
        input=described[0],
        more_inputs=more,
        class_names=("a", "b"),
        provenance=provenance,
    )


BYTES = subject({"dtype": "uint8", "shape": (2, 3)})
NUMBERS = subject({"dtype": "float32", "shape": (3,)})
NORMALIZED = subject({"dtype": "uint8", "shape": (1, 2, 2), "mean": (0.5,), "std": (0.25,)})
NAMED = subject(
    {"dtype": "int64", "shape": (4,), "name": "input_ids"}, {"dtype": "bool", "shape": (4,), "name": "attention_mask"}
)
PAIR = subject({"dtype": "int64", "shape": (4,)}, {"dtype": "float32", "shape": (2,)})


def test_an_example_is_taken_with_and_without_its_axis() -> None:
    values = torch.arange(6, dtype=torch.uint8).reshape(2, 3)
    for given in (values, values[None], values.double(), values.long()):
        found = stored_tensors(given, BYTES)
        assert isinstance(found, torch.Tensor)
        assert torch.equal(found, values[None])
        assert found.dtype == torch.uint8
    numbers = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    assert torch.equal(stored_tensors(numbers, NUMBERS), numbers.float()[None])  # type: ignore[arg-type]


def test_bytes_are_normalized_as_the_datas_and_numbers_are_taken_as_they_are() -> None:
    found = stored_tensors(torch.full((1, 2, 2), 255, dtype=torch.uint8), NORMALIZED)
    assert torch.equal(found, torch.full((1, 1, 2, 2), 2.0))  # type: ignore[arg-type]
    assert torch.equal(stored_tensors(torch.ones(1, 2, 2), NORMALIZED), torch.ones(1, 1, 2, 2))  # type: ignore[arg-type]


def test_several_tensors_are_taken_by_name_or_by_place() -> None:
    ids, mask = torch.tensor([5, 3, 1, 0]), torch.tensor([1, 1, 1, 0])
    by_name = stored_tensors({"attention_mask": mask, "input_ids": ids}, NAMED)
    by_place = stored_tensors((ids, mask.bool()), NAMED)
    assert isinstance(by_name, dict)
    assert isinstance(by_place, dict)
    for found in (by_name, by_place):
        assert torch.equal(found["input_ids"], ids[None])
        assert torch.equal(found["attention_mask"], mask.bool()[None])
    pair = stored_tensors((ids, torch.ones(2)), PAIR)
    assert isinstance(pair, tuple)
    assert [list(each.shape) for each in pair] == [[1, 4], [1, 2]]


@pytest.mark.parametrize(
    ("given", "of", "told"),
    [
        (torch.zeros(3, 2), BYTES, r"'input_0' of shape \[2, 3\], found \[3, 2\]"),
        (torch.zeros(2, 2, 3), BYTES, r"of shape \[2, 3\], found \[2, 2, 3\]"),
        (torch.full((2, 3), 0.5), BYTES, "expected uint8 values .* found torch.float32 from 0.5 to 0.5"),
        (torch.full((2, 3), 256), BYTES, "expected uint8 values .* found torch.int64 from 256 to 256"),
        (torch.full((2, 3), float("nan")), BYTES, "expected uint8 values"),
        (torch.tensor([1.0, float("inf"), 0]), NUMBERS, "expected finite numbers for input 'input_0', found inf"),
        (torch.tensor([1e300, 1, 0], dtype=torch.float64), NUMBERS, "found inf"),
        ({"input_ids": torch.zeros(4)}, NAMED, r"input_ids \[4\], attention_mask \[4\], found input_ids"),
        (torch.zeros(4), PAIR, "found 1 tensors; give one tensor for each"),
    ],
)  # fmt: skip
def test_others_are_refused(given: Any, of: Subject, told: str) -> None:
    with pytest.raises(DataError, match=told):
        stored_tensors(given, of)


def test_nested_lists_are_numbers_or_refused() -> None:
    described = NUMBERS.input
    assert tensor_of([1, 2.5, 3], described).tolist() == [1, 2.5, 3]
    for wrong in (["a", "b", "c"], [[1, 2], [3]], {"a": 1}):
        with pytest.raises(DataError, match=r"numbers of shape \[3\] for 'input_0'"):
            tensor_of(wrong, described)
