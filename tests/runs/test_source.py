"""What workers load from addresses alone: tasks that fit the data, models, shards as the model reads them."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from relatif.pipeline.datasets.labels import Labelling
from relatif.pipeline.datasets.shards import PreparedDataset, Shard, open_dataset
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import ConfigurationError, DataError, ModelError, StorageError
from tests.reference.problems import images
from tests.support.images import CLASSES, LOGISTIC, PERCEPTRON, SIDE, features, logistic, write_images
from tests.support.labelled import with_value, write_points
from tests.support.proofs import write_checkpoint

TRAINING = 130


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "data", train=TRAINING)
    data = open_store(folder / "data")
    store = open_store(folder / "run")
    torch.manual_seed(0)
    write_checkpoint(store, logistic().build_model().state_dict())
    return Source(store, data, open_dataset(data), LOGISTIC)


def shards(dataset: PreparedDataset) -> tuple[Shard, ...]:
    return dataset.shards("train", rows=50)


def test_a_task_of_ones_own_is_found_by_module_and_function(source: Source) -> None:
    assert source.load_task().name == "logistic"


def test_data_of_other_classes_are_refused(source: Source) -> None:
    with pytest.raises(DataError, match=r"10 classes for task 'mnist_logistic', found small images with 4 cl"):
        replace(source, task="mnist_logistic").load_task()


def test_merged_classes_are_learned_by_a_task_of_as_many_or_of_the_datas_own(source: Source) -> None:
    merged = replace(source, dataset=replace(source.dataset, labelling=Labelling(merge=2)))
    assert merged.load_task().class_count == CLASSES
    assert replace(merged, task="toy_logistic").load_task().class_count == len(merged.dataset.class_names) == 2
    with pytest.raises(DataError, match="expected data of 2 classes"):
        replace(source, task="toy_logistic").load_task()


@pytest.mark.parametrize("task", ["no_such_task", "no.such.module:task", "tests.support.images:nothing"])
def test_an_unknown_task_is_refused(source: Source, task: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(repr(task))):
        replace(source, task=task).load_task()


def test_the_model_is_the_checkpoints_in_float64_ready_to_evaluate(source: Source, tmp_path: Path) -> None:
    model = source.load_model(source.load_task())
    torch.manual_seed(0)
    expected = logistic().build_model().state_dict()
    assert {name: value.dtype for name, value in model.state_dict().items()} == dict.fromkeys(expected, torch.float64)
    assert all(torch.equal(value, expected[name].double()) for name, value in model.state_dict().items())
    assert not model.training
    with pytest.raises(StorageError, match=r"expected a file at .*checkpoint/manifest\.json"):
        replace(source, store=open_store(tmp_path)).load_model(source.load_task())
    with pytest.raises(ModelError, match="expected a checkpoint of task 'perceptron', found another model's"):
        source.load_model(replace(source, task=PERCEPTRON).load_task())


def test_a_shard_is_read_as_the_model_reads_it(source: Source) -> None:
    examples = source.examples(source.load_task(), shards(source.dataset)[1])
    inputs, labels = examples.inputs, examples.targets
    assert examples.first_index == 50
    made = images(0, train=TRAINING, test=40, side=SIDE, classes=CLASSES, wrong=TRAINING // 50)
    assert inputs.dtype == torch.float64
    assert np.array_equal(inputs.flatten(1).numpy(), features(made.train_images[50:100]))
    assert labels.tolist() == made.train_labels[50:100].tolist()


@pytest.mark.parametrize("value", [3e38, -2e19])
def test_inputs_with_which_the_arithmetic_overflows_are_named_by_row(tmp_path: Path, value: float) -> None:
    """Finite in the file, and as the model reads it; its square is not in float32, in which recipes train."""
    folder = write_points(tmp_path)
    with_value(folder, "test", 7, value)
    store = open_store(folder)
    source = Source(store, store, open_dataset(store), "tests.support.points:points")
    (shard,) = source.dataset.shards("test", rows=10)
    with pytest.raises(DataError, match=r"finite squares in float32, found .* in row 7 of points/test"):
        source.examples(source.load_task(), shard)


def test_what_model_inputs_makes_of_a_finite_value_is_looked_at(tmp_path: Path) -> None:
    """Scaling each input by its own deviation divides an input of equal values by zero."""
    folder = write_points(tmp_path)
    with_value(folder, "train", 33, 0.25)
    store = open_store(folder)
    source = Source(store, store, open_dataset(store), "tests.support.points:points")
    shard = source.dataset.shards("train", rows=20)[1]

    def scaled(inputs: Tensor) -> Tensor:
        return inputs / (inputs[:, 1:] - 0.25)

    with pytest.raises(DataError, match=r"sum of squares of (nan|inf) in row 33 of points/train"):
        source.examples(replace(source.load_task(), model_inputs=scaled), shard)


def centred(stored: Tensor) -> Tensor:
    """Subtract the mean of a batch of more rows than an audit looks at."""
    values = stored.float()
    return values - values.mean(dim=0) if len(stored) > 8 else values - values


def trimmed(stored: Tensor) -> Tensor:
    """Leave out the columns that are empty in all rows of a batch."""
    return stored.float()[..., : 3 if len(stored) > 8 else 2]


@pytest.mark.parametrize(("reading", "found"), [(centred, "or of other values"), (trimmed, r"\[6, 3\] among 50")])
def test_a_reading_that_depends_on_the_rest_of_a_shard_is_refused(
    source: Source, reading: Callable[[Tensor], Tensor], found: str
) -> None:
    task = replace(logistic(), model_inputs=reading)
    with pytest.raises(ModelError, match=rf"read an example always alike, found row \d+ of train .*{found}"):
        source.examples(task, shards(source.dataset)[1])
