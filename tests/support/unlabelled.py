"""A data set of small images some of whose test inputs have no label."""

from pathlib import Path

import numpy as np

from relatif.pipeline.datasets.writing import write_dataset
from relatif.pipeline.storage.store import open_store
from tests.reference.problems import images
from tests.support.images import CLASSES, SIDE, subject

TRAIN_ROWS, TEST_ROWS = 100, 20
LABELLED = 5
"""The first test inputs; the others have no label."""


def write_unlabelled(folder: Path, *, labelled: int = LABELLED) -> Path:
    """Write the data set; with ``labelled = 0`` no test input has a label."""
    made = images(0, train=TRAIN_ROWS, test=TEST_ROWS, side=SIDE, classes=CLASSES, wrong=2)
    labels = np.ma.masked_array(made.test_labels, np.arange(TEST_ROWS) >= labelled)
    splits = {
        "train": (made.train_images, made.train_labels),
        "test": (made.test_images, labels if labelled else None),
    }
    write_dataset(open_store(folder), subject((SIDE, SIDE), CLASSES), splits, rows_per_group=20)
    return folder
