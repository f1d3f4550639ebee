"""What a data set says of itself is checked, and its fingerprint follows the content alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relatif.pipeline.datasets.description import (
    DATASET_JSON,
    InputDescription,
    Provenance,
    Subject,
    read_description,
)
from relatif.pipeline.datasets.provenance import HoldOut
from relatif.pipeline.datasets.writing import Arrays, write_dataset
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError

COMMITTED = Path(__file__).resolve().parents[2] / "data" / "mnist"
COMMITTED_FINGERPRINT = "32ef30bc37b2d7e204db4199b4ba2231be825b6e7cb1f125133f9c3fb2eb6a84"


def subject(**changes: Any) -> Subject:
    values: dict[str, Any] = {
        "name": "made-up",
        "meaning": "noise",
        "input": InputDescription(column="image", dtype="uint8", shape=(2, 3)),
        "class_names": ("a", "b"),
        "provenance": Provenance(origin="a generator", licence="none", licence_url="", sources=()),
    }
    return Subject(**{**values, **changes})


def arrays(rows: int, seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (rows, 2, 3), np.uint8), generator.integers(0, 2, rows)


def fingerprint(store: Store, about: Subject, seed: int = 0, rows_per_group: int = 4) -> str:
    splits = {"train": arrays(10, seed), "test": arrays(4, 1)}
    return write_dataset(store, about, splits, rows_per_group=rows_per_group).fingerprint  # type: ignore[arg-type]


def test_the_fingerprint_follows_content_and_nothing_else(tmp_path: Path) -> None:
    base = fingerprint(open_store(tmp_path / "a"), subject())
    assert fingerprint(open_store(tmp_path / "b"), subject()) == base
    elsewhere = Provenance(origin="another copy", licence="none", licence_url="", sources=())
    assert fingerprint(open_store(tmp_path / "c"), subject(provenance=elsewhere)) == base
    others = [
        fingerprint(open_store(tmp_path / "d"), subject(), seed=2),
        fingerprint(open_store(tmp_path / "e"), subject(), rows_per_group=5),
        fingerprint(open_store(tmp_path / "f"), subject(class_names=("a", "c"))),
    ]
    assert len({base, *others}) == 4


def test_a_description_comes_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    written = write_dataset(store, subject(), {"train": arrays(10)})
    assert read_description(store) == written


def test_additions_change_nothing_of_descriptions_without_them() -> None:
    store = open_store(COMMITTED)
    description = read_description(store)
    assert description.model_dump_json(indent=1).encode() + b"\n" == store.read_bytes(DATASET_JSON)
    assert description.fingerprint == COMMITTED_FINGERPRINT


def test_additions_come_back_and_count_where_they_change_what_inputs_mean(tmp_path: Path) -> None:
    base = fingerprint(open_store(tmp_path / "a"), subject())
    plain = subject().input
    for name, value in (("axes", ("row", "column")), ("vocabulary", "abc")):
        store = open_store(tmp_path / name)
        assert fingerprint(store, subject(input=plain.model_copy(update={name: value}))) != base
        assert getattr(read_description(store).input, name) == value
    provenance = subject().provenance.model_copy(update={"hold_out": HoldOut(share=0.15, seed=3)})
    assert fingerprint(open_store(tmp_path / "b"), subject(provenance=provenance)) == base
    assert read_description(open_store(tmp_path / "b")).provenance.hold_out == HoldOut(share=0.15, seed=3)


def test_names_that_are_held_out_are_written_only_where_there_are_some() -> None:
    by_lot, named = HoldOut(share=0.15, seed=3), HoldOut(share=0.15, seed=3, names=("a", "b"))
    assert by_lot.model_dump_json() == '{"share":0.15,"seed":3}'
    assert [HoldOut.model_validate_json(each.model_dump_json()) for each in (by_lot, named)] == [by_lot, named]


def test_float32_is_described_and_told_apart_by_the_fingerprint(tmp_path: Path) -> None:
    described = InputDescription(column="image", dtype="float32", shape=(2, 3))
    assert (described.stored, described.row_bytes) == (np.dtype("<f4"), 24)
    assert (subject().input.stored, subject().input.row_bytes) == (np.dtype(np.uint8), 6)
    pixels, labels = arrays(10)
    prints = [
        write_dataset(open_store(tmp_path / about.input.dtype), about, {"train": (pixels.astype(kind), labels)})
        for about, kind in ((subject(), np.uint8), (subject(input=described), np.float32))
    ]
    assert prints[0].fingerprint != prints[1].fingerprint
    assert read_description(open_store(tmp_path / "float32")).input == described
    with pytest.raises(ValueError, match="float64"):
        InputDescription.model_validate({"column": "x", "dtype": "float64", "shape": (2,)})


def _drop_name(values: dict[str, Any]) -> None:
    del values["name"]


def _raise_format(values: dict[str, Any]) -> None:
    values["format"] = 2


def _add_key(values: dict[str, Any]) -> None:
    values["surprise"] = 1


def _miscount_split(values: dict[str, Any]) -> None:
    values["splits"]["train"]["rows"] += 1


def _miscount_groups(values: dict[str, Any]) -> None:
    values["splits"]["train"]["files"][0]["row_groups"][0] += 1


@pytest.mark.parametrize("damage", [_drop_name, _raise_format, _add_key, _miscount_split, _miscount_groups])
def test_a_damaged_description_is_refused(tmp_path: Path, damage: Callable[[dict[str, Any]], None]) -> None:
    store = open_store(tmp_path)
    write_dataset(store, subject(), {"train": arrays(10)})
    values = json.loads(store.read_bytes(DATASET_JSON))
    damage(values)
    store.publish_bytes(DATASET_JSON, json.dumps(values).encode())
    with pytest.raises(DataError, match=r"dataset\.json.*prepare the data set again"):
        read_description(store)


def test_no_description_and_half_a_one_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    with pytest.raises(DataError, match="found none; correct the address or prepare it with relatif prepare"):
        read_description(store)
    store.publish_bytes(DATASET_JSON, b'{"format": 1, ')
    with pytest.raises(DataError, match=r"dataset\.json"):
        read_description(store)
