"""The exact curvature's factors: strips of the matrix summed by tasks over all shards, then one eigendecomposition.

Axes: P parameters side by side. A task sums the strips of one group over all shards, in order, and leaves them in
storage: the matrix of P^2 numbers never passes through Ray, and no sum depends on how strips were grouped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from relatif.pipeline.cluster.tasks import gather, share, submit, value_of, wait, watch_of
from relatif.pipeline.console import Progress
from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.eigen import Curvature, DenseBasis, LayerCurvature, check_positive
from relatif.pipeline.curvature.exact import (
    Strip,
    check_size,
    fisher_strips,
    hessian_strips,
    joint_eigen,
    joint_matrix,
    strips_of,
)
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.covered import coverage_of, load_covered_model
from relatif.pipeline.explaining.stored_curvature import write_joint
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.building import Builder, Building
from relatif.pipeline.storage.tensors import read_written_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import FileReceipt

GROUP_BYTES = 128 * 2**20
"""Budget for the strips that a task holds; twice that is used while a shard's part is added."""


@dataclass(frozen=True)
class StripSums:
    """Sums strips of the matrix over all training shards and leaves them in storage."""

    source: Source
    shards: tuple[Shard, ...]
    config: CurvatureConfig
    device: str

    def __call__(self, strips: Sequence[Strip], path: str) -> FileReceipt:
        """Sum the strips over all shards, in order, and publish the sums at ``path``."""
        task = self.source.load_task()
        subject = load_covered_model(self.source, task, self.config, self.device)
        of_batch = fisher_strips if self.config.exact_matrix == "fisher" else hessian_strips
        totals: dict[Strip, torch.Tensor] = {}
        for shard in self.shards:
            for strip, part in of_batch(subject, self.source.examples(task, shard, self.device), strips).items():
                totals[strip] = totals[strip].add_(part) if strip in totals else part
        named = {_strip_name(strip): total for strip, total in totals.items()}
        return write_tensors(self.source.store, path, named, {})


def strip_groups(coverage: Coverage, cpus: int) -> list[list[Strip]]:
    """Deal the strips out to groups of about equal size: one for each core, or more where memory asks for it."""
    strips, size = strips_of(coverage), coverage.covered_count
    # 4 P^2 bytes are one half of the matrix in float64.
    count = min(len(strips), max(cpus, -(-4 * size * size // GROUP_BYTES)))
    # In turn, as strips get shorter along the matrix.
    return [strips[place::count] for place in range(count)]


def exact_factors(building: Building, shown: Progress) -> list[FileReceipt]:
    """Build the exact curvature on the cluster; return the receipt of its eigendecomposition.

    Raises NumericalError where a Hessian plus damping is not positive definite.
    """
    source, config, limits = building.source, building.config, building.cluster.limits
    asked = partial(submit, retries=limits.retries)
    groups = strip_groups(building.covered, building.cluster.resources.cpus)
    sums = share(StripSums(source, building.shards, config, building.device))
    paths = [run_directory.row_sums(group) for group in range(len(groups))]
    summed: dict[str, FileReceipt] = {}
    pending = [
        asked(_summed, sums, strips, path, gpus=building.cluster.gpus, name=f"factors strips {group:05d}")
        for group, (strips, path) in enumerate(zip(groups, paths, strict=True))
    ]
    watch = watch_of(pending, "factors", limits)
    try:
        while pending:
            done, pending = wait(pending, watch=watch, shown=shown)
            for task in done:
                receipt: FileReceipt = value_of(task)
                summed[receipt.path] = receipt
                shown.advance(note=f"strips summed into {receipt.path}")
        in_order, rows = [summed[path] for path in paths], building.shards[-1].stop
        decomposing = asked(_decompose, source, config, in_order, rows, name="factors eigendecomposition")
        (written,) = gather([decomposing], title="factors", limits=limits, shown=shown)
        shown.advance(note="eigendecomposition")
        return [written]
    finally:
        source.store.delete(run_directory.FACTORS_WORK)


def _steps(building: Building) -> tuple[int, str]:
    """Return a step for each group of strips and one for the eigendecomposition."""
    return len(strip_groups(building.covered, building.cluster.resources.cpus)) + 1, "steps"


def _summed(sums: StripSums, strips: Sequence[Strip], path: str) -> FileReceipt:
    return sums(strips, path)


def _decompose(source: Source, config: CurvatureConfig, summed: Sequence[FileReceipt], count: int) -> FileReceipt:
    coverage = coverage_of(source.load_task(), source.layers, source.exclude)
    strips: dict[Strip, torch.Tensor] = {}
    names = {_strip_name(strip): strip for strip in strips_of(coverage)}
    for receipt in summed:
        strips.update({names[name]: part for name, part in read_written_tensors(source.store, receipt).items()})
    values, vectors = joint_eigen(joint_matrix(coverage, strips).div_(count))
    if config.exact_matrix == "fisher":
        values = values.clamp(min=0)  # a mean of squares: what is below zero is rounding
    check_positive(Curvature({"": LayerCurvature(None, values[None])}, config.damping))
    return write_joint(source.store, DenseBasis(vectors), values, config.exact_matrix)


def _strip_name(strip: Strip) -> str:
    return f"{strip[0]}:{strip[1]}"


EXACT = Builder(_steps, exact_factors, check_size)
