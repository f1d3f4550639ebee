"""Tasks whose models can't be explained: each has one fault, which a run must name before it writes a score."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.tasks.task import Task, cross_entropy
from tests.reference.problems import images
from tests.support.images import CLASSES, SIDE, scaled, subject, untrained

BLACK_ROW = 137
"""Training example without any light: there the root has an infinite slope."""


class Root(nn.Module):
    """Finite everywhere, with an infinite slope at zero."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the square root of the values' size."""
        return inputs.abs().sqrt()


class Mixed(nn.Module):
    """Distances to a layer's weights, by a function that mixes examples."""

    def __init__(self) -> None:
        """Make both layers."""
        super().__init__()
        self.pairs, self.head = nn.Linear(SIDE * SIDE, 3, bias=False), nn.Linear(3, CLASSES)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return logits."""
        return self.head(torch.cdist(self.pairs.weight, inputs.flatten(1)).T)


def _rooted() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 5, bias=False), Root(), nn.Linear(5, CLASSES))


def uncovered() -> Task:
    """Return a task with a use of parameters that is not understood."""
    return Task("uncovered", CLASSES, Mixed, scaled, cross_entropy, untrained)


def rooted() -> Task:
    """Return a task with a gradient that is not finite at the black image."""
    return Task("rooted", CLASSES, _rooted, scaled, cross_entropy, untrained)


def write_images_with_a_black_one(folder: Path) -> Path:
    """Write a data set whose training row BLACK_ROW is black."""
    made = images(0, train=200, test=40, side=SIDE, classes=CLASSES, wrong=3)
    made.train_images[BLACK_ROW] = np.uint8(0)
    splits = {"train": (made.train_images, made.train_labels), "test": (made.test_images, made.test_labels)}
    write_dataset(open_store(folder), subject((SIDE, SIDE), CLASSES), splits, rows_per_group=50, rows_per_file=400)
    return folder
