"""Two classes in the plane with one outlier, after the paper's Fig. 1; the test set is a grid over the plane."""

from random import Random
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Split, Subject
from relatif.pipeline.datasets.preparing import Published, prepare_once
from relatif.pipeline.datasets.provenance import Provenance
from relatif.pipeline.datasets.shards import PreparedDataset
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import ConfigurationError

NAME = "toy"
CLASS_NAMES = ("left", "right")

CENTRE = 1.75
DEVIATION = 0.8
"""Examples of a class are normal around (-CENTRE, 0) or (CENTRE, 0), with DEVIATION in every direction."""

EXAMPLES_OF_A_CLASS = 40

OUTLIER = (3.0, 4.0)
"""The last training example: of class left, but beyond the boundary and away from all others."""

OUTLIER_INDEX = 2 * EXAMPLES_OF_A_CLASS

HALF_WIDTH = 5.0
RESOLUTION = 100
"""The grid: RESOLUTION x RESOLUTION points from -HALF_WIDTH to HALF_WIDTH on both axes."""


def prepare_toy(out: Store, *, seed: int = 0, resolution: int = RESOLUTION) -> PreparedDataset:
    """Write the toy data to ``out``: features float32 [2]; nothing is done if they are there already.

    Test rows go from left to right, line by line from below; their label is the class of the nearer centre. Raises
    ConfigurationError for a grid of fewer than 2 x 2 points, DataError where ``out`` holds another data set.
    """
    if resolution < 2:
        raise ConfigurationError(f"expected a grid of at least 2 points on each side, found {resolution}; raise it")
    subject = Subject(
        name=NAME,
        meaning="points of the plane in two classes; the last training example is an outlier, test rows are a grid",
        input=InputDescription(column="point", dtype="float32", shape=(2,), axes=("coordinate",)),
        class_names=CLASS_NAMES,
        provenance=Provenance(
            origin=f"made up: seed {seed}, grid of {resolution} x {resolution} points",
            licence="CC0-1.0",
            licence_url="https://creativecommons.org/publicdomain/zero/1.0/",
            sources=(),
        ),
    )
    splits: dict[Split, list[Chunk]] = {"train": [training_set(seed)], "test": [grid(resolution)]}
    rows = {split: sum(map(len, chunks)) for split, chunks in splits.items()}
    return prepare_once(out, Published(subject, splits, rows))


def training_set(seed: int) -> Chunk:
    """Return the training examples: class left, class right, the outlier."""
    uniform = Random(seed)
    noise = NormalDist(0, DEVIATION)
    # From uniform numbers, which are the same with every version of Python and of every library.
    drawn = [noise.inv_cdf(uniform.random()) for _ in range(4 * EXAMPLES_OF_A_CLASS)]
    centres = np.repeat([[-CENTRE, 0.0], [CENTRE, 0.0]], EXAMPLES_OF_A_CLASS, axis=0)
    points = np.concatenate([centres + np.reshape(drawn, (-1, 2)), [OUTLIER]])
    labels = np.array([0] * EXAMPLES_OF_A_CLASS + [1] * EXAMPLES_OF_A_CLASS + [0])
    return Chunk(points.astype(np.float32), labels)


def grid(resolution: int) -> Chunk:
    """Return the test inputs."""
    axis: NDArray[np.float32] = np.linspace(-HALF_WIDTH, HALF_WIDTH, resolution, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    return Chunk(points, (points[:, 0] > 0).astype(np.int64))
