"""Runs of the pipeline in tests: configurations, and tables as they lie in a run directory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig, load_config
from tests.support.images import LOGISTIC

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "data/mnist"
MNIST_CONFIG = ROOT / "jobs/configs/mnist_logistic.toml"

ALWAYS_WRITTEN = ("train_examples", "test_examples", "top_k", "influence_sets", "overlap")


def config(source: Path, *overrides: str, task: str = LOGISTIC) -> RunConfig:
    """Return a configuration on the data in ``source``, with ``section.key=value`` overrides."""
    return load_config(MNIST_CONFIG, [f"task={task}", f"data.source={source}", *overrides])


def tables(out: Path) -> dict[str, pa.Table]:
    """Return every table of a run by name."""
    return {folder.name: pq.read_table(folder) for folder in sorted((out / run_directory.TABLES).iterdir())}


def dense(scores: pa.Table, tests: int, training: int) -> NDArray[np.float32]:
    """Return the table ``scores`` as the matrix [M, N] that it stands for; every entry must be there once."""
    matrix = np.full((tests, training), np.nan, np.float32)
    lists = scores["influence"].combine_chunks()
    values, ends = lists.flatten().to_numpy(), lists.value_lengths().to_numpy().cumsum()
    rows = zip(scores["test_index"].to_pylist(), scores["train_start"].to_pylist(), ends, strict=True)
    begin = 0
    for test, start, end in rows:
        place = matrix[test, start : start + end - begin]
        assert np.isnan(place).all()
        place[:] = values[begin:end]
        begin = end
    assert not np.isnan(matrix).any()
    return matrix


def file_bytes(folder: Path, pattern: str = "**/*") -> dict[str, bytes]:
    """Return the contents of all files below a folder, by relative path."""
    paths = (path for path in sorted(folder.glob(pattern)) if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
