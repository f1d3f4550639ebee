"""Tasks of a user's own on small made-up images, and data sets of them: every parameter fits into a dense matrix.

N training and M test examples, 6 x 6 pixels, 4 classes.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from relatif.pipeline.datasets.description import InputDescription, Provenance, Split, Subject
from relatif.pipeline.datasets.shards import open_dataset, read_shard
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.logistic import LogisticRegression, train_to_optimum
from relatif.pipeline.tasks.minibatch import train_by_minibatches
from relatif.pipeline.tasks.newton import NewtonRetraining
from relatif.pipeline.tasks.task import Task, TrainingSet, cross_entropy
from relatif.schemas.config import TrainConfig
from tests.reference.problems import images

SIDE, CLASSES = 6, 4
HIDDEN = 5
LOGISTIC = "tests.support.images:logistic"
MINIBATCHES = "tests.support.images:minibatches"
PERCEPTRON = "tests.support.images:perceptron"
ROWWISE = "tests.support.images:rowwise"


class Rowwise(nn.Module):
    """A layer applied to every row of an image and one to the rows' mean: gradients that are no outer products."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Linear(SIDE, HIDDEN)
        self.head = nn.Linear(HIDDEN, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits [N, C] of images [N, SIDE, SIDE]."""
        return self.head(torch.tanh(self.rows(inputs)).mean(dim=1))


def logistic() -> Task:
    """Return logistic regression on the pixels, trained to its optimum and retrained by Newton steps."""
    task = _task("logistic", partial(LogisticRegression, SIDE * SIDE, CLASSES), train_to_optimum)
    return replace(task, retrain=NewtonRetraining())


def perceptron() -> Task:
    """Return a network with one hidden layer, left as it was initialized."""
    return _task("perceptron", _perceptron, untrained)


def minibatches() -> Task:
    """Return a network with one hidden layer, trained by minibatches from its seed."""
    return _task("minibatches", _perceptron, train_by_minibatches)


def rowwise() -> Task:
    """Return a network whose first layer is applied at several positions, left as it was initialized."""
    return _task("rowwise", Rowwise, untrained)


def no_task() -> str:
    """Return something that is no task."""
    return "no task"


def write_images(folder: Path, *, train: int, test: int = 40, seed: int = 0, rows_per_group: int = 50) -> Path:
    """Write a data set of noisy templates, some of them with wrong labels; the same arguments give the same files."""
    made = images(seed, train=train, test=test, side=SIDE, classes=CLASSES, wrong=train // 50)
    splits = {"train": (made.train_images, made.train_labels), "test": (made.test_images, made.test_labels)}
    write_dataset(
        open_store(folder), subject((SIDE, SIDE), CLASSES), splits, rows_per_group=rows_per_group, rows_per_file=400
    )
    return folder


def subject(shape: tuple[int, ...], classes: int) -> Subject:
    """Return the description of made-up images."""
    return Subject(
        name="small images",
        meaning="made-up images",
        input=InputDescription(column="pixels", dtype="uint8", shape=shape),
        class_names=tuple(f"class {number}" for number in range(classes)),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )


def features(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return pixels [N, ...] as the models read them, float64 [N, D] (divided in float32)."""
    return (pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)).astype(np.float64)


def _task(name: str, build: object, train: object) -> Task:
    return Task(name, CLASSES, build, scaled, cross_entropy, train)


def scaled(inputs: Tensor) -> Tensor:
    """Return pixels from 0 to 1, float32."""
    return inputs.float() / 255


def _perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, CLASSES))


def untrained(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    """Return the state of the model as it is initialized."""
    torch.manual_seed(config.seed)
    return task.build_model().state_dict()


def pixels(data: Path, split: Split) -> tuple[np.ndarray, np.ndarray]:
    """Return the features and labels of a written split, as the references read them."""
    store = open_store(data)
    dataset = open_dataset(store)
    (shard,) = dataset.shards(split, rows=dataset.rows(split))
    examples = read_shard(store, dataset, shard)
    return features(examples.inputs.numpy()), examples.labels.numpy()
