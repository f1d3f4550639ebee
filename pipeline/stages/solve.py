"""Durable units of work, of some test inputs each, that solve for the numerators.

Axes: R test inputs of a piece, P parameters side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import side_by_side
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.solver import SOLVED_ROWS, Solver, load_solver
from relatif.pipeline.runs.chosen_tests import rows_at
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.runs.source import Source
from relatif.pipeline.runs.stage import StageRun
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.tables import SOLUTIONS

SOLUTION, RESIDUALS, ITERATIONS = "solution", "residuals", "iterations"

SOLVED_BYTES = 256 * 2**20
"""Upper limit of one [R, P] matrix; a solver holds about six."""


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
        return f"solve {self.first:08d}"

    @property
    def manifest(self) -> str:
        """Path of the unit's proof."""
        return run_directory.solution_manifest(self.first)

    @property
    def first(self) -> int:
        """Row of the unit's first input in the test set."""
        return self.shard.start + self.start


@dataclass(frozen=True)
class SolvePlan:
    """What every piece of a run shares."""

    source: Source
    shards: tuple[Shard, ...]
    explained: str | int
    curvature: CurvatureConfig
    measurement: str = LOSS

    def __call__(self, worker: Worker) -> "UnitSolver":
        """Load models and the curvature in eigen form in an actor."""
        return UnitSolver(self, load_solver(self.source, self.shards, self.curvature, worker))


@dataclass(frozen=True)
class UnitSolver:
    """Solves for the test inputs of a unit."""

    plan: SolvePlan
    solver: Solver

    def __call__(self, unit: SolveUnit) -> Made:
        """Solve and write. Raises NumericalError where a residual is above the tolerance.

        The first test input is solved for alone before the others: settings that don't converge are told by it.
        """
        explainer, source = self.solver.explainer, self.plan.source
        whole = source.examples(explainer.task, unit.shard, explainer.worker.device)
        examples = whole.rows(unit.start, unit.stop)
        explained = explainer.explain(
            examples, explained=self.plan.explained, split="test", measurement=self.plan.measurement
        )
        gradients = side_by_side(explained.gradients).dense().flatten(1)
        if unit.first == 0 and len(gradients) > 1:
            self.solver.solve(gradients[:1])
        found = self.solver.solve(gradients)
        tensors = {SOLUTION: found.values, RESIDUALS: found.residuals, ITERATIONS: found.iterations}
        metadata = {"method": self.plan.curvature.method}
        receipt = write_tensors(source.store, run_directory.solution_file(unit.first), tensors, metadata)
        return Made((receipt,), {"largest_residual": f"{float(found.residuals.max()):.3g}"})


def solve_units(stage: StageRun, shards: Sequence[Shard], parameters: int) -> list[SolveUnit]:
    """Cut the test shards of a block into pieces, small enough for vectors of P ``parameters``."""
    rows = max(1, min(SOLVED_ROWS, SOLVED_BYTES // (8 * parameters)))
    digest = stage.unit_digest(rows=rows)
    return [
        SolveUnit(shard, start, min(start + rows, shard.rows), digest)
        for shard in shards
        for start in range(0, shard.rows, rows)
    ]


def load_solutions(store: Store, units: Sequence[SolveUnit]) -> Tensor:
    """Return the solutions of consecutive units as one, [M, P] float64."""
    return torch.cat([_solved(store, unit)[SOLUTION] for unit in units])


def solutions_table(store: Store, units: Sequence[SolveUnit], chosen: Sequence[int] | None = None) -> pa.Table:
    """Return the table ``solutions``: iterations and residual of every test input; ``chosen`` are their rows."""
    columns: dict[str, list[Tensor]] = {"test_index": [], "iterations": [], "residual": []}
    for unit in units:
        tensors = _solved(store, unit)
        columns["test_index"].append(rows_at(chosen, torch.arange(unit.first, unit.first + unit.stop - unit.start)))
        columns["iterations"].append(tensors[ITERATIONS].int())
        columns["residual"].append(tensors[RESIDUALS])
    arrays = {name: torch.cat(parts).numpy() for name, parts in columns.items()}
    return pa.table(arrays, schema=SOLUTIONS.schema)


def _solved(store: Store, unit: SolveUnit) -> dict[str, Tensor]:
    return read_proven_tensors(store, run_directory.solution_file(unit.first), unit.manifest)
