"""Numerators by an iterative solver: (H + lambda I)^-1 g_t of some test inputs, once, as a durable piece of work.

Axes: R test inputs of a piece, P parameters side by side.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import by_layer, side_by_side
from relatif.pipeline.curvature.gradients import DenseGradients
from relatif.pipeline.curvature.iterative import (
    Solutions,
    check_residuals,
    conjugate_gradients,
    largest_eigenvalue,
    lissa,
    relative_residuals,
)
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.fisher_products import RUN_ROWS, FisherSource
from relatif.pipeline.parallel import single_threaded_pool
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import Source
from relatif.pipeline.stages.factors import load_eigen_form
from relatif.pipeline.storage.manifests import finished, publish_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.manifest import Manifest
from relatif.schemas.tables import SOLUTIONS

SOLUTION, RESIDUALS, ITERATIONS = "solution", "residuals", "iterations"

PIECE_ROWS = 128
"""Test inputs that are solved for together: enough for products of matrices, few enough for a minute of work."""

PIECE_BYTES = 256 * 2**20
"""Of one vector for each of them; the solvers hold about six."""

POWER_ITERATIONS = 20
SCALE_MARGIN = 2.0
"""LiSSA's default scale over the largest eigenvalue of the whole training set: batches have larger ones."""


@dataclass(frozen=True)
class SolveUnit:
    """Rows ``start`` to ``stop`` of a test shard; ``digest`` is what their solutions depend on."""

    shard: Shard
    start: int
    stop: int
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"{self.first:08d}"

    @property
    def first(self) -> int:
        """Row of the test set of the first of them."""
        return self.shard.start + self.start


@dataclass(frozen=True)
class SolvePlan:
    """What every piece of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig

    def __call__(self, threads: int, device: str) -> "Solver":
        """Load one copy of the model for each thread, and the curvature in eigen form, in an actor."""
        task, config = self.source.load_task(), self.curvature
        width = threads if device == "cpu" else 1
        copies = [self.source.load_subject(task, config, device) for _ in range(width)]
        explainer = Explainer(task, copies[0], load_eigen_form(self.source, config, device), device, solves=True)
        return Solver(self, explainer, FisherSource(self.source, self.shards, copies, single_threaded_pool(width)))


@dataclass(frozen=True)
class Solver:
    """Solves for the test inputs of a unit and leaves their solutions with proof."""

    plan: SolvePlan
    explainer: Explainer
    fisher: FisherSource

    def __call__(self, unit: SolveUnit) -> Manifest:
        """Solve, publish and prove. Raises NumericalError where a residual is above the tolerance."""
        started = time.monotonic()
        inputs, labels = self.plan.source.read(self.explainer.task, unit.shard, self.explainer.device)
        some = slice(unit.start, unit.stop)
        rows = self.explainer.rows(
            inputs[some], labels[some], explained=self.plan.explained, first=unit.first, split="test"
        )
        found = self.solve(side_by_side(rows.gradients).dense().flatten(1))
        tensors = {SOLUTION: found.values, RESIDUALS: found.residuals, ITERATIONS: found.iterations}
        store, metadata = self.plan.source.store, {"method": self.plan.curvature.method}
        proof = Manifest(
            work=f"solve {unit.name}",
            digest=unit.digest,
            outputs=(write_tensors(store, run_directory.solution_file(unit.first), tensors, metadata),),
            seconds=round(time.monotonic() - started, 3),
            facts={"largest_residual": f"{float(found.residuals.max()):.3g}"},
        )
        publish_manifest(store, run_directory.solution_manifest(unit.first), proof)
        return proof

    def solve(self, gradients: Tensor) -> Solutions:
        """Solve for gradients [R, P]. Raises NumericalError where a residual is above the tolerance."""
        return self._by_cg(gradients) if self.plan.curvature.method == "cg" else self._by_lissa(gradients)

    def _by_cg(self, gradients: Tensor) -> Solutions:
        config = self.plan.curvature
        return conjugate_gradients(
            self.fisher.product,
            gradients,
            damping=config.damping,
            precondition=self._precondition,
            tolerance=config.cg_tolerance,
            max_iterations=config.cg_max_iterations,
        )

    def _by_lissa(self, gradients: Tensor) -> Solutions:
        config = self.plan.curvature
        scale = config.lissa_scale or self._scale(gradients)
        generator = torch.Generator().manual_seed(config.lissa_seed)
        width = max(1, config.lissa_batch_size // RUN_ROWS)

        def product(vectors: Tensor, _: int) -> Tensor:
            runs = torch.randint(self.fisher.run_count, (width,), generator=generator).tolist()
            return self.fisher.batch_product(vectors, runs)

        total = torch.zeros_like(gradients)
        for _ in range(config.lissa_repeats):
            total += lissa(product, gradients, damping=config.damping, scale=scale, depth=config.lissa_depth)
        found = total / config.lissa_repeats
        residuals = relative_residuals(self.fisher.product, gradients, found, damping=config.damping)
        steps = config.lissa_depth * config.lissa_repeats
        check_residuals(residuals, config.lissa_tolerance, f"LiSSA after {steps} steps", "lissa_")
        return Solutions(found, residuals, torch.full((len(gradients),), steps))

    def _scale(self, like: Tensor) -> float:
        config = self.plan.curvature
        largest = largest_eigenvalue(self.fisher.product, like[:1], iterations=POWER_ITERATIONS, seed=config.lissa_seed)
        return SCALE_MARGIN * (largest + config.damping)

    def _precondition(self, vectors: Tensor) -> Tensor:
        """Apply the inverse of the curvature in eigen form."""
        shapes = self.explainer.subject.coverage.blocks
        gradients = {name: DenseGradients(values) for name, values in by_layer(vectors, shapes).items()}
        return torch.cat([values.flatten(1) for values in self.explainer.curvature.solve(gradients).values()], dim=1)


def solve_units(run: Run, shards: Sequence[Shard], parameters: int) -> list[SolveUnit]:
    """Cut the test shards of a block into pieces, small enough for vectors of P ``parameters``."""
    rows = max(1, min(PIECE_ROWS, PIECE_BYTES // (8 * parameters)))
    depends = run.score_digest()
    return [
        SolveUnit(shard, start, min(start + rows, shard.rows), run.digest("score", solve=depends, rows=rows))
        for shard in shards
        for start in range(0, shard.rows, rows)
    ]


def is_solved(store: Store, unit: SolveUnit) -> bool:
    """Return whether a piece was finished earlier."""
    return finished(store, run_directory.solution_manifest(unit.first), unit.digest) is not None


def load_solutions(store: Store, units: Sequence[SolveUnit]) -> Tensor:
    """Return the solutions of consecutive units as one, [M, P] float64."""
    return torch.cat([read_tensors(store, run_directory.solution_file(unit.first))[SOLUTION] for unit in units])


def solutions_table(store: Store, units: Sequence[SolveUnit]) -> pa.Table:
    """Return the table ``solutions``: iterations and residual of every test input."""
    columns: dict[str, list[Tensor]] = {"test_index": [], "iterations": [], "residual": []}
    for unit in units:
        tensors = read_tensors(store, run_directory.solution_file(unit.first))
        columns["test_index"].append(torch.arange(unit.first, unit.first + unit.stop - unit.start))
        columns["iterations"].append(tensors[ITERATIONS].int())
        columns["residual"].append(tensors[RESIDUALS])
    arrays = {name: torch.cat(parts).numpy() for name, parts in columns.items()}
    return pa.table(arrays, schema=SOLUTIONS.schema)
