"""The exact curvature's factors: rows of the matrix summed by tasks over all shards, then one eigendecomposition.

Axes: P parameters side by side. A task sums the rows of one group over all shards, in order, and leaves them in
storage: the matrix of P^2 numbers never passes through Ray, and no sum depends on how rows were grouped.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from relatif.pipeline.cluster.session import Resources
from relatif.pipeline.cluster.tasks import gather, share, submit, value_of, wait
from relatif.pipeline.console import Progress
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.eigen import Curvature, DenseBasis, LayerCurvature, check_positive
from relatif.pipeline.curvature.exact import Row, fisher_rows, hessian_rows, joint_eigen, joint_matrix, rows_of
from relatif.pipeline.curvature.subject import Examples
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.runs.source import Source
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import ConfigurationError
from relatif.schemas.manifest import FileReceipt

EIGENBASIS = "eigenbasis"
SPECTRUM = "spectrum"

GROUP_BYTES = 128 * 2**20
"""Rows that a task holds; twice that while a shard's part is added."""

LARGEST_PARAMETERS = 20_000
"""P at which the decomposition needs about 13 GB, and hours."""


@dataclass(frozen=True)
class RowSums:
    """Sums rows of the matrix over all training shards and leaves them in storage."""

    source: Source
    shards: tuple[Shard, ...]
    config: CurvatureConfig

    def __call__(self, rows: Sequence[Row], path: str) -> FileReceipt:
        """Sum and publish."""
        task = self.source.load_task()
        subject = self.source.load_subject(task, self.config)
        of_batch = fisher_rows if self.config.exact_matrix == "fisher" else hessian_rows
        totals: dict[Row, torch.Tensor] = {}
        for shard in self.shards:
            for row, part in of_batch(subject, Examples(*self.source.read(task, shard), shard.start), rows).items():
                totals[row] = totals[row].add_(part) if row in totals else part
        return write_tensors(self.source.store, path, {_row_name(row): total for row, total in totals.items()}, {})


def row_groups(coverage: Coverage, cpus: int) -> list[list[Row]]:
    """Deal the rows out to groups of about equal size: one for each core, or more where memory asks for it."""
    rows, size = rows_of(coverage), coverage.covered_count
    count = min(len(rows), max(cpus, -(-4 * size * size // GROUP_BYTES)))
    return [rows[place::count] for place in range(count)]


def exact_steps(coverage: Coverage, cpus: int) -> int:
    """Return how many steps of work ``exact_factors`` reports: a group of rows each, and the eigendecomposition."""
    return len(row_groups(coverage, cpus)) + 1


def exact_factors(
    source: Source, shards: tuple[Shard, ...], config: CurvatureConfig, resources: Resources, shown: Progress
) -> list[FileReceipt]:
    """Build the exact curvature on the cluster; return the receipt of its eigendecomposition.

    Raises NumericalError where a Hessian plus damping is not positive definite.
    """
    coverage = source.coverage(source.load_task())
    groups = row_groups(coverage, resources.cpus)
    sums = share(RowSums(source, shards, config))
    paths = [run_directory.row_sums(group) for group in range(len(groups))]
    pending = [submit(_summed, sums, rows, path) for rows, path in zip(groups, paths, strict=True)]
    try:
        while pending:
            done, pending = wait(pending, tick=shown.tick)
            for receipt in done:
                shown.advance(note=f"rows summed into {value_of(receipt).path}")
        (written,) = gather([submit(_decompose, source, config, paths, shards[-1].stop)], tick=shown.tick)
        shown.advance(note="eigendecomposition")
        return [written]
    finally:
        source.store.delete(run_directory.FACTORS_WORK)


def check_size(coverage: Coverage) -> None:
    """Raise ConfigurationError where the covered parameters are too many for a dense matrix."""
    if coverage.covered_count > LARGEST_PARAMETERS:
        raise ConfigurationError(
            f"expected at most {LARGEST_PARAMETERS:,} covered parameters for the exact curvature, found "
            f"{coverage.covered_count:,}; choose layers by curvature.layers, or another curvature.method"
        )


def load_joint(store: Store) -> LayerCurvature:
    """Return the one block that the exact curvature consists of."""
    tensors = read_tensors(store, run_directory.JOINT_FACTORS)
    return LayerCurvature(DenseBasis(tensors[EIGENBASIS]), tensors[SPECTRUM][None])


def _summed(sums: RowSums, rows: Sequence[Row], path: str) -> FileReceipt:
    return sums(rows, path)


def _decompose(source: Source, config: CurvatureConfig, paths: Sequence[str], count: int) -> FileReceipt:
    coverage = source.coverage(source.load_task())
    rows: dict[Row, torch.Tensor] = {}
    names = {_row_name(row): row for row in rows_of(coverage)}
    for path in paths:
        rows.update({names[name]: part for name, part in read_tensors(source.store, path).items()})
    values, vectors = joint_eigen(joint_matrix(coverage, rows).div_(count))
    if config.exact_matrix == "fisher":
        values = values.clamp(min=0)  # a mean of squares: what is below zero is rounding
    check_positive(Curvature({"": LayerCurvature(None, values[None])}, config.damping))
    tensors = {EIGENBASIS: vectors, SPECTRUM: values}
    metadata = {"method": "exact", "matrix": config.exact_matrix}
    return write_tensors(source.store, run_directory.JOINT_FACTORS, tensors, metadata)


def _row_name(row: Row) -> str:
    return f"{row[0]}:{row[1]}"
