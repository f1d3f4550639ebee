"""The pipeline's side of the comparison: real runs by the command line, read back from their files.

Axes: M test inputs, N training examples.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import torch
from torch import Tensor, nn

from relatif.pipeline.datasets.shards import open_dataset
from relatif.pipeline.explaining.covered import coverage_of
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import open_store
from relatif.pipeline.storage.tensors import read_tensors
from relatif.schemas import run_directory

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
METHODS = ("kfac", "ekfac")
TRAIN_ROWS, TEST_ROWS = 2000, 200


@dataclass(frozen=True)
class Case:
    """A model to compare, by the settings of its runs that are not those of every run."""

    name: str
    config: str
    task: str
    damping: float


@dataclass(frozen=True)
class Explained:
    """A trained model in float64, its examples (inputs, labels), and influence [M, N] and K-FAC's files by method."""

    model: nn.Module
    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]
    influence: Mapping[str, Tensor]
    spectra: Mapping[str, Mapping[str, Tensor]]


def prepare(name: str, source: Path, out: Path) -> None:
    """Make Parquet shards of a published format."""
    _command("prepare", name, "--source", str(source), "--out", str(out))


def explain(case: Case, data: Path, out: Path) -> Explained:
    """Run the whole pipeline with K-FAC, then with EK-FAC from the same checkpoint, into folders below ``out``."""
    for method in METHODS:
        if method != METHODS[0]:
            shutil.copytree(out / METHODS[0] / "checkpoint", out / method / "checkpoint")
        settings = (
            f"task={case.task}",
            f"data.source={data}",
            f"data.train_limit={TRAIN_ROWS}",
            f"score.test_limit={TEST_ROWS}",
            "score.write_scores=true",
            "score.explained_label='true'",
            "curvature.fisher=empirical",
            f"curvature.damping={case.damping}",
            f"curvature.method={method}",
        )
        options = [part for setting in settings for part in ("--set", setting)]
        _command("run", "--config", case.config, "--out", str(out / method), *options)
    return _read(case, data, out)


def _read(case: Case, data: Path, out: Path) -> Explained:
    store, shards = open_store(str(out / METHODS[0])), open_store(str(data))
    source = Source(store, shards, open_dataset(shards), case.task)
    task = source.load_task()
    examples = {}
    for split, limit in (("train", TRAIN_ROWS), ("test", TEST_ROWS)):
        parts = [source.examples(task, s) for s in source.dataset.shards(split, rows=limit, limit=limit)]
        examples[split] = torch.cat([part.inputs for part in parts]), torch.cat([part.targets for part in parts])
    model = source.load_model(task)
    names = tuple(coverage_of(task, source.layers).blocks)
    spectra = {
        method: {
            name: read_tensors(open_store(str(out / method)), run_directory.factor_file(name))["spectrum"]
            for name in names
        }
        for method in METHODS
    }
    influence = {method: _scores(out / method) for method in METHODS}
    return Explained(model, examples["train"], examples["test"], influence, spectra)


def _scores(run: Path) -> Tensor:
    """Return the table ``scores`` as the matrix [M, N] that it stands for, float64."""
    table = pl.read_parquet(run / run_directory.table("scores") / "*.parquet").sort("test_index", "train_start")
    values = torch.from_numpy(table["influence"].explode().to_numpy().copy()).double()
    assert values.numel() == TEST_ROWS * TRAIN_ROWS, f"expected {TEST_ROWS} x {TRAIN_ROWS} scores, found {len(values)}"
    return values.reshape(TEST_ROWS, TRAIN_ROWS)


def _command(job: str, *arguments: str) -> None:
    """Run a job of the project; its progress goes to stderr, so that stdout holds the comparison alone."""
    environment = {**os.environ, "PYTHONPATH": str(HERE)}
    command = [sys.executable, "-m", f"jobs.{job}", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=True)
