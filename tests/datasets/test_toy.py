"""The toy data are what the figure needs, and the same every time."""

from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.published import prepare
from relatif.pipeline.datasets.shards import read_shard
from relatif.pipeline.datasets.toy import (
    CENTRE,
    DEVIATION,
    EXAMPLES_OF_A_CLASS,
    HALF_WIDTH,
    OUTLIER,
    OUTLIER_INDEX,
    grid,
    prepare_toy,
    training_set,
)
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError
from tests.reference.idx import made_up_digits, write_digits
from tests.support.runs import file_bytes

# Python's inverse normal distribution of random.Random(0).random(): 0.8444218515250481, 0.7579544029403025, ...
FIRST = [-CENTRE + DEVIATION * 1.0127, DEVIATION * 0.6997]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_toy(open_store(tmp_path / name), seed=seed, resolution=7)
    assert file_bytes(tmp_path / "a") == file_bytes(tmp_path / "b")
    again = prepare_toy(open_store(tmp_path / "a"), seed=1, resolution=7)
    assert file_bytes(tmp_path / "a") == file_bytes(tmp_path / "c"), "another seed is no reason to keep what is there"
    assert again.description.provenance.origin == "made up: seed 1, grid of 7 x 7 points"


def test_training_examples_are_two_clusters_and_the_outlier() -> None:
    made = training_set(0)
    np.testing.assert_allclose(made.inputs[0], FIRST, atol=1e-3)
    assert made.labels.tolist() == [0] * EXAMPLES_OF_A_CLASS + [1] * EXAMPLES_OF_A_CLASS + [0]
    assert made.inputs[OUTLIER_INDEX].tolist() == list(OUTLIER)
    many = np.stack([training_set(seed).inputs[:OUTLIER_INDEX] for seed in range(50)])
    for part, centre in ((many[:, :EXAMPLES_OF_A_CLASS], -CENTRE), (many[:, EXAMPLES_OF_A_CLASS:], CENTRE)):
        # 2,000 draws: means and deviations within 5 standard errors.
        error = 5 * DEVIATION / 2000**0.5
        np.testing.assert_allclose(part.mean(axis=(0, 1)), [centre, 0], atol=error)
        np.testing.assert_allclose(part.std(axis=(0, 1)), DEVIATION, atol=error)


def test_test_rows_are_the_grid_line_by_line() -> None:
    made = grid(3)
    axis = [-HALF_WIDTH, 0.0, HALF_WIDTH]
    assert made.inputs.tolist() == [[x, y] for y in axis for x in axis]
    assert made.labels.tolist() == [0, 0, 1] * 3
    assert made.inputs.dtype == np.float32


def test_shards_give_the_points_back(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    dataset = prepare_toy(store, resolution=5)
    for split, made in (("train", training_set(0)), ("test", grid(5))):
        (shard,) = dataset.shards(split, rows=100)  # type: ignore[arg-type]
        read = read_shard(store, dataset, shard)
        assert read.inputs.numpy().tobytes() == made.inputs.tobytes()
        assert read.labels.tolist() == made.labels.tolist()


def test_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    write_digits(tmp_path / "source", made_up_digits(5, 3))
    prepare(open_store(tmp_path / "source"), open_store(tmp_path / "out"), "mnist")
    with pytest.raises(DataError, match="expected no data set or toy"):
        prepare_toy(open_store(tmp_path / "out"))
