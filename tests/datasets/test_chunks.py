"""Several inputs, targets that are no classes, identifiers and parts of any name are stored and read as they were."""

from pathlib import Path

import numpy as np
import pytest
import torch

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject, TargetDescription
from relatif.pipeline.datasets.shards import PreparedDataset, open_dataset, read_shard, read_shard_ids
from relatif.pipeline.datasets.writing import write_chunks
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

ROWS = 25
IDS = np.arange(ROWS * 3, dtype=np.int64).reshape(ROWS, 3)
MASK = IDS % 2 == 0
PIXELS = (np.arange(ROWS * 12) % 256).astype(np.uint8).reshape(ROWS, 3, 2, 2)
TARGETS = np.linspace(-1, 1, ROWS * 2, dtype=np.float32).reshape(ROWS, 2)
NAMES = tuple(f"row {row}" for row in range(ROWS))


def described(**more: object) -> Subject:
    given = {
        "name": "forms",
        "meaning": "made up",
        "input": InputDescription(column="ids", dtype="int64", shape=(3,), name="input_ids"),
        "more_inputs": (InputDescription(column="mask", dtype="bool", shape=(3,), name="attention_mask"),),
        "target": TargetDescription(column="target", dtype="float32", shape=(2,)),
        "id_column": "case",
        "class_names": (),
        "provenance": Provenance(origin="made up", licence="CC0-1.0", licence_url="", sources=()),
    }
    return Subject.model_validate({**given, **more})


def chunk(**more: object) -> Chunk:
    return Chunk(**{"inputs": IDS, "labels": TARGETS, "more_inputs": (MASK,), "ids": NAMES, **more})  # type: ignore[arg-type]


def written(folder: Path, subject: Subject, rows: Chunk) -> PreparedDataset:
    store = open_store(folder)
    write_chunks(store, subject, {"fit": [rows], "held": [rows.rows(0, 4)]}, rows_per_group=10)
    return open_dataset(store)


def test_named_inputs_targets_and_identifiers_come_back(tmp_path: Path) -> None:
    dataset, store = written(tmp_path, described(), chunk()), open_store(tmp_path)
    shards = dataset.shards("fit", rows=10)
    assert [shard.rows for shard in shards] == [10, 10, 5]
    assert dataset.input_numbers == 6
    for shard in shards:
        stored, rows = read_shard(store, dataset, shard), slice(shard.start, shard.stop)
        assert isinstance(stored.inputs, dict)
        assert list(stored.inputs) == ["input_ids", "attention_mask"]
        assert torch.equal(stored.inputs["input_ids"], torch.from_numpy(IDS[rows]))
        assert torch.equal(stored.inputs["attention_mask"], torch.from_numpy(MASK[rows]))
        assert torch.equal(stored.targets, torch.from_numpy(TARGETS[rows]))
        assert read_shard_ids(store, dataset, shard) == list(NAMES[rows])


def test_a_tuple_and_targets_of_whole_numbers_come_back(tmp_path: Path) -> None:
    subject = described(
        input=InputDescription(column="ids", dtype="int64", shape=(3,)),
        more_inputs=(InputDescription(column="mask", dtype="bool", shape=(3,)),),
        target=TargetDescription(column="target", dtype="int64", shape=(3,)),
        id_column=None,
    )
    dataset = written(tmp_path, subject, chunk(labels=-IDS, ids=None))
    (shard,) = dataset.shards("held", rows=10)
    stored = read_shard(open_store(tmp_path), dataset, shard)
    assert isinstance(stored.inputs, tuple)
    assert torch.equal(stored.inputs[1], torch.from_numpy(MASK[:4]))
    assert torch.equal(stored.targets, torch.from_numpy(-IDS[:4]))
    assert read_shard_ids(open_store(tmp_path), dataset, shard) is None


def test_bytes_are_normalized_where_mean_and_deviation_are_described(tmp_path: Path) -> None:
    mean, std = (0.5, 0.25, 0.1), (0.2, 0.3, 0.4)
    image = InputDescription(column="image", dtype="uint8", shape=(3, 2, 2), mean=mean, std=std)
    subject = described(input=image, more_inputs=None)
    dataset = written(tmp_path, subject, chunk(inputs=PIXELS, more_inputs=()))
    stored = read_shard(open_store(tmp_path), dataset, dataset.shards("held", rows=4)[0])
    expected = (PIXELS[:4] / 255 - np.reshape(mean, (3, 1, 1))) / np.reshape(std, (3, 1, 1))
    assert isinstance(stored.inputs, torch.Tensor)
    torch.testing.assert_close(stored.inputs, torch.from_numpy(expected).float(), rtol=1e-6, atol=1e-6)


def test_parts_of_other_names_are_taken_for_train_and_test(tmp_path: Path) -> None:
    plain = written(tmp_path, described(), chunk())
    dataset = PreparedDataset(plain.description, parts=(("train", "fit"), ("test", "held")))
    assert (dataset.rows("train"), dataset.rows("test"), dataset.rows("held")) == (ROWS, 4, 4)
    stored = read_shard(open_store(tmp_path), dataset, dataset.shards("train", rows=100)[0])
    assert torch.equal(stored.targets, torch.from_numpy(TARGETS))
    with pytest.raises(DataError, match=r"a part 'test' in data set forms, found fit, held; name one .* data\.test"):
        plain.rows("test")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inputs": IDS.astype(np.int32)}, r"inputs of forms/fit as int64 of shape \(3,\), found int32"),
        ({"more_inputs": (MASK[:, :2],)}, r"as bool of shape \(3,\), found bool of shape \(2,\)"),
        ({"labels": TARGETS[:, :1]}, r"targets of forms/fit as float32 of shape \(2,\), found float32 of shape \(1,\)"),
        ({"labels": TARGETS * np.float32("nan")}, "finite targets of forms/fit, found nan"),
        ({"ids": None}, "expected 25 identifiers for forms/fit, found none"),
        ({"ids": NAMES[:3]}, "expected 25 identifiers for forms/fit, found 3"),
        ({"labels": TARGETS[:3]}, "found 25 inputs and 6 labels"),
    ],
)
def test_what_does_not_fit_its_description_is_refused(tmp_path: Path, wrong: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        written(tmp_path, described(), chunk(**wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"more_inputs": (InputDescription(column="ids", dtype="bool", shape=(3,), name="b"),)},
        {"more_inputs": (InputDescription(column="mask", dtype="bool", shape=(3,)),)},
        {"target": TargetDescription(column="ids", dtype="int64", shape=(3,))},
    ],
)
def test_columns_and_arguments_have_names_of_their_own(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="need names of their own"):
        described(**wrong)
