"""A small data set of numbers, and tasks on it whose models are given: what a user would explain, right or wrong.

61 training and 13 test examples of 6 numbers, 3 classes.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood import PerExampleLoss, cross_entropy
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import RunConfig, TrainConfig

FEATURES, CLASSES = 6, 3
ROWS = {"train": 61, "test": 13}


def write_features(
    folder: Path, *, shape: tuple[int, ...] = (FEATURES,), classes: int = CLASSES, dtype: str = "float32"
) -> Path:
    """Write random examples; whole numbers from 1 to 9 where they are stored as such."""
    chance = np.random.default_rng(0)
    splits = {}
    for split, rows in ROWS.items():
        inputs = chance.integers(1, 10, (rows, *shape)) if dtype == "uint8" else chance.standard_normal((rows, *shape))
        splits[split] = (inputs.astype(dtype), chance.integers(0, classes, rows))
    subject = Subject(
        name="features",
        meaning="made-up numbers",
        input=InputDescription(column="x", dtype=dtype, shape=shape),
        class_names=tuple(f"class {number}" for number in range(classes)),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    write_dataset(open_store(folder), subject, splits, rows_per_group=20, rows_per_file=40)
    return folder


def source_of(data: Path, out: Path, layers: tuple[str, ...] | None = None) -> Source:
    """Return the addresses of a data set and of a run; its task is given to functions directly."""
    store = open_store(data)
    return Source(open_store(out), store, open_dataset(store), "tests.support.featured:none", layers)


def config_of(data: Path, **sections: dict[str, object]) -> RunConfig:
    """Return a configuration on a data set."""
    given = {"task": "tests.support.featured:none", "data": {"source": str(data)}, **sections}
    return RunConfig.model_validate(given)


def task_of(
    build: Callable[[], nn.Module],
    loss: PerExampleLoss = cross_entropy,
    model_inputs: Callable[[Tensor], Tensor] = Tensor.float,
) -> Task:
    """Return a task that leaves its model as it is built."""
    return Task("given", CLASSES, build, model_inputs, loss, as_built)


def as_built(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    """Return the state of a new model, of the seed."""
    torch.manual_seed(config.seed)
    return task.build_model().state_dict()
