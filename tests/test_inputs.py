"""One tensor, a tuple or a dict of tensors go the same way: counted, cut, joined, moved and measured alike."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.inputs import Inputs
from relatif.schemas.errors import ModelError

IDS = torch.arange(12).reshape(4, 3)
MASK = torch.tensor([True, False, True, True])
PIXELS = torch.linspace(0, 1, 8).reshape(4, 2)

FORMS: dict[str, Inputs] = {
    "one tensor": PIXELS,
    "a tuple": (PIXELS, IDS, MASK),
    "a tuple of one": (IDS,),
    "a dict": {"input_ids": IDS, "attention_mask": MASK},
}


def same(one: Inputs, other: Inputs) -> bool:
    mine, theirs = batches.named(one), batches.named(other)
    return type(one) is type(other) and mine.keys() == theirs.keys() and all(map(torch.equal, *_both(mine, theirs)))


def _both(one: dict[str, Tensor], other: dict[str, Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    return [one[name] for name in one], [other[name] for name in one]


@pytest.mark.parametrize("form", FORMS)
def test_parts_join_to_the_whole(form: str) -> None:
    whole = FORMS[form]
    parts = [batches.rows(whole, slice(start, stop)) for start, stop in ((0, 1), (1, 3), (3, 9))]
    assert [batches.count(part) for part in parts] == [1, 2, 1]
    assert same(batches.joined(parts), whole)
    assert same(batches.rows(whole, [2, 0]), batches.joined([batches.rows(whole, [row]) for row in (2, 0)]))
    assert batches.count(batches.rows(whole, MASK)) == 3


@pytest.mark.parametrize("form", FORMS)
def test_names_give_the_same_form_again(form: str) -> None:
    names = batches.named(FORMS[form])
    assert same(batches.from_named(dict(sorted(names.items(), reverse=True))), FORMS[form])


def test_a_copy_may_be_changed() -> None:
    whole: Inputs = (PIXELS.clone(), IDS.clone())
    for tensor in batches.tensors(batches.copied(whole)):
        tensor.zero_()
    assert same(whole, (PIXELS, IDS))


def test_numbers_are_cast_and_codes_and_masks_stay() -> None:
    given = {"x": PIXELS, "bytes": IDS.byte(), "ids": IDS, "short": IDS.int(), "mask": MASK}
    moved = batches.named(batches.moved(given, "cpu", torch.float64))
    assert [each.dtype for each in moved.values()] == [
        torch.float64,
        torch.float64,
        torch.int64,
        torch.int32,
        torch.bool,
    ]
    assert torch.equal(moved[".bytes"], IDS.double())
    single = batches.tensors(batches.in_precision(moved["." + "x"], torch.float32))
    assert [each.dtype for each in single] == [torch.float32]
    assert batches.precision_of({"ids": IDS}) is None
    assert batches.precision_of({"ids": IDS, "x": PIXELS}) == torch.float32


def test_features_and_squares_are_of_all_numbers() -> None:
    shown = batches.features({"ids": IDS, "mask": MASK, "x": PIXELS})
    assert torch.equal(shown, torch.cat([IDS.float(), MASK.float()[:, None], PIXELS], dim=1))
    assert torch.equal(batches.features(PIXELS), PIXELS)
    found = batches.sum_of_squares((IDS, PIXELS))
    assert torch.allclose(found, torch.cat([IDS, PIXELS.double()], dim=1).square().sum(dim=1), rtol=1e-15)


@pytest.mark.parametrize("wrong", [(), (PIXELS, IDS[:2]), {"x": torch.tensor(1.0)}])
def test_tensors_of_other_examples_are_refused(wrong: Inputs) -> None:
    with pytest.raises(ModelError, match="expected tensors whose first axis is the same examples"):
        batches.count(wrong)
