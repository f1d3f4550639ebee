"""Runs of the pipeline in tests: configurations, and tables as they lie in a run directory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from relatif.pipeline.cluster.session import Cluster, Resources
from relatif.pipeline.evaluations.evaluate import chosen
from relatif.pipeline.evaluations.leave_one_out import LEAVE_ONE_OUT_STAGE
from relatif.pipeline.runs.opening import open_run
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.running import begin, run_stages
from relatif.pipeline.runs.stage import Proofs, Stage, StageRun
from relatif.pipeline.stages.whole_run import WHOLE_RUN
from relatif.schemas import run_directory
from relatif.schemas.config import RunConfig
from relatif.schemas.manifest import Manifest
from relatif.schemas.reading import load_config
from tests.support.images import LOGISTIC

ROOT = Path(__file__).resolve().parents[2]
MNIST = ROOT / "data/mnist"
MNIST_CONFIG = ROOT / "tests/support/mnist.toml"

ALWAYS_WRITTEN = ("train_examples", "test_examples", "top_k", "influence_sets", "overlap")


def config(source: Path, *overrides: str, task: str = LOGISTIC) -> RunConfig:
    """Return a configuration on the data in ``source``, with ``section.key=value`` overrides."""
    return load_config(MNIST_CONFIG, [f"task={task}", f"data.source={source}", *overrides])


STAGES = {stage.name: stage for stage in (*WHOLE_RUN, LEAVE_ONE_OUT_STAGE)}
"""Stages by name; ``evaluate`` stands for the chosen evaluations."""


def run_named(config: RunConfig, out: str | Path, *names: str) -> Run:
    """Run stages by name, by default those of a whole run, as the jobs do."""

    def choose(run: Run) -> list[Stage]:
        evaluations = [evaluation.stage for evaluation in chosen(run)] if "evaluate" in names else []
        return [*(STAGES[name] for name in names if name != "evaluate"), *evaluations]

    return run_stages(config, str(out), choose if names else lambda _: WHOLE_RUN, known=WHOLE_RUN)


def begun(config: RunConfig, out: str | Path) -> Proofs:
    """Open a run as a job of all stages does before any work, and return its proofs."""
    return begin(open_run(config, str(out)), WHOLE_RUN)


def proof(run: Run, name: str) -> Manifest:
    """Return the proof of a finished stage."""
    return Proofs(run).need(STAGES[name])


def stage_run(run: Run, name: str) -> StageRun:
    """Return what a stage is handed, after those before it are finished: for what it does without a cluster."""
    stage, proofs = STAGES[name], Proofs(run)
    cluster = Cluster(run.config.cluster, Resources(nodes=1, cpus=2, gpus=0, node_cpus=2, address=""))
    return StageRun(
        run, cluster, {each.name: proofs.need(each) for each in stage.before}, stage, proofs.unit(stage).digest
    )


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
