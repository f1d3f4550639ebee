"""Linear regression as a task: trained in closed form, on made-up numbers."""

from functools import reduce
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.curvature.likelihood_gaussian import Gaussian
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject, TargetDescription
from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task, TrainingSet
from relatif.schemas.config import TrainConfig

FEATURES, VARIANCE = 4, 0.5
ROWS = {"train": 60, "test": 8}
TASK = "tests.support.regression:linear"


def linear() -> Task:
    return Task("linear", build_model=build, train=trained, retrain=ClosedForm(), likelihood=Gaussian(1, VARIANCE))


def build() -> nn.Module:
    return nn.Linear(FEATURES, 1)


def trained(task: Task, data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    return {name: value.float() for name, value in optimum(data, config).items()}


def optimum(data: TrainingSet, config: TrainConfig) -> dict[str, Tensor]:
    """Return the parameters of the least mean loss + weight_decay / 2 ||theta||^2, float64."""

    def moments(batch) -> Tensor:
        rows = torch.cat([batch.inputs.double(), torch.ones(len(batch.inputs), 1).double()], dim=1)
        return rows.T @ torch.cat([rows, batch.labels.double().reshape(-1, 1)], dim=1) / VARIANCE

    summed = reduce(torch.add, data.batches(moments)) / data.rows
    left = summed[:, :-1] + config.weight_decay * torch.eye(FEATURES + 1).double()
    theta = torch.linalg.solve(left, summed[:, -1])
    return {"weight": theta[None, :-1].contiguous(), "bias": theta[-1:].clone()}


class ClosedForm:
    def prepare(
        self, task: Task, data: TrainingSet, config: TrainConfig, trained: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        return {"none": torch.zeros(1)}

    def run(self, task: Task, data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        return optimum(data, config)


def write_numbers(folder: Path) -> Path:
    """Write the data set."""
    chance = np.random.default_rng(0)
    splits = {}
    for split, rows in ROWS.items():
        inputs = chance.standard_normal((rows, FEATURES)).astype(np.float32)
        noise = chance.standard_normal((rows, 1))
        splits[split] = (inputs, (inputs @ np.arange(1.0, FEATURES + 1)[:, None] + noise).astype(np.float32))
    subject = Subject(
        name="numbers",
        meaning="made-up numbers",
        input=InputDescription(column="x", dtype="float32", shape=(FEATURES,)),
        target=TargetDescription(column="y", dtype="float32", shape=(1,)),
        class_names=(),
        provenance=Provenance(origin="made up", licence="CC0-1.0", licence_url="none", sources=()),
    )
    write_dataset(open_store(folder), subject, splits, rows_per_group=20)
    return folder
