"""Shards are complete by their names: each once, in order, with fingerprints or without."""

import pytest

from relatif.pipeline.datasets.shard_names import shards_in_order, split_of
from relatif.schemas.errors import DataError


def numbered(*numbers: int, total: int, prints: str = "") -> list[str]:
    """Return the names of shards, with a fingerprint from each character of ``prints``."""
    marks = [f"-{mark * 16}" for mark in prints] or [""] * len(numbers)
    return [
        f"data/train-{number:05d}-of-{total:05d}{mark}.parquet" for number, mark in zip(numbers, marks, strict=True)
    ]


def test_files_belong_to_a_split_by_their_names() -> None:
    named = {
        "train.parquet": "train",
        "data/test-00000-of-00001-0a1b2c.parquet": "test",
        "train-a.parquet": "train",
        "training.parquet": None,
        "validation-00000-of-00001.parquet": None,
        "train.parquet.tmp": None,
    }
    assert {name: split_of(name) for name in named} == named


@pytest.mark.parametrize("prints", ["", "a1f"])
def test_shards_are_ordered_by_their_numbers(prints: str) -> None:
    names = numbered(0, 1, 2, total=3, prints=prints)
    assert shards_in_order([names[2], names[0], "data/test.parquet", names[1]], "train", "here") == names


def test_numbers_are_compared_as_numbers() -> None:
    names = [f"train-{number}-of-11.parquet" for number in range(11)]
    assert shards_in_order(sorted(names), "train", "here") == names


def test_names_without_numbers_are_taken_in_their_order() -> None:
    assert shards_in_order(["train-b.parquet", "train-a.parquet"], "train", "h")[0] == "train-a.parquet"


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], r"train\.parquet or train-\*\.parquet in here, found neither"),
        (numbered(0, 2, total=3), "3 shards of train .* found none with number 00001"),
        (numbered(0, 2, total=3, prints="ab"), "3 shards of train .* found none with number 00001"),
        (numbered(0, 1, total=3, prints="ab"), "found none with number 00002"),
        (numbered(0, 1, 1, total=2, prints="abc"), "each shard of train once .* number 00001 twice: .*-b+.* and .*-c+"),
        ([*numbered(0, 1, total=2), *numbered(0, total=2, prints="a")], "number 00000 twice"),
        (numbered(0, 1, 2, total=2), "2 shards of train .* found number 00002"),
        ([*numbered(0, total=1), *numbered(0, 1, total=2)], "one set of shards"),
        ([*numbered(0, total=1), "data/train.parquet"], "one set of shards"),
        ([*numbered(0, total=1), "data/train-more.parquet"], "one set of shards"),
    ],
)
def test_what_is_no_whole_set_is_refused(names: list[str], told: str) -> None:
    with pytest.raises(DataError, match=told):
        shards_in_order(names, "train", "here")
