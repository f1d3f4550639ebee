"""Numerators by an iterative solver: (H + lambda I)^-1 g_t, with products of the Fisher over the whole training set.

Axes: R test inputs, P parameters side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.eigen import by_layer
from relatif.pipeline.curvature.forms import DenseGradients
from relatif.pipeline.curvature.iterative import ConjugateGradients, Lissa, Solutions, largest_eigenvalue
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.covered import load_covered_model
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.fisher_products import RUN_ROWS, FisherProducts
from relatif.pipeline.explaining.stored_curvature import load_eigen_form
from relatif.pipeline.runs.source import Source
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import NumericalError

SOLVED_ROWS = 128
"""Inputs that are solved for together: enough for products of matrices, few enough for a minute of work."""

POWER_ITERATIONS = 20
SCALE_MARGIN = 2.0
"""LiSSA's default scale over the training set's largest eigenvalue: that of a batch may be larger."""


SETTINGS = {
    "cg": "curvature.cg_max_iterations, curvature.damping or curvature.cg_tolerance",
    "lissa": "curvature.lissa_depth, curvature.lissa_scale, curvature.damping or curvature.lissa_tolerance",
}
"""Which settings to change where a method does not converge."""


@dataclass(frozen=True)
class Solver:
    """Solves (H + lambda I) s = g by the method of the settings, cg or lissa."""

    config: CurvatureConfig
    explainer: Explainer
    fisher: FisherProducts

    def solve(self, gradients: Tensor) -> Solutions:
        """Solve for gradients g [R, P]. Raises NumericalError, naming the settings, where a residual is too large."""
        try:
            return self._by_cg(gradients) if self.config.method == "cg" else self._by_lissa(gradients)
        except NumericalError as error:
            raise NumericalError(f"{error}: set {SETTINGS[self.config.method]}") from error

    def _by_cg(self, gradients: Tensor) -> Solutions:
        config = self.config
        solver = ConjugateGradients(config.cg_tolerance, config.cg_max_iterations)
        return solver.solve(self.fisher.product, gradients, damping=config.damping, precondition=self._precondition)

    def _by_lissa(self, gradients: Tensor) -> Solutions:
        config = self.config
        scale = config.lissa_scale or self._scale(gradients)
        solver = Lissa(config.lissa_depth, config.lissa_repeats, scale, config.lissa_tolerance)
        generator = torch.Generator().manual_seed(config.lissa_seed)
        width = max(1, config.lissa_batch_size // RUN_ROWS)

        def step_product(vectors: Tensor, _: int) -> Tensor:
            runs = torch.randint(self.fisher.run_count, (width,), generator=generator).tolist()
            return self.fisher.batch_product(vectors, runs)

        return solver.solve(self.fisher.product, step_product, gradients, damping=config.damping)

    def _scale(self, like: Tensor) -> float:
        config = self.config
        largest = largest_eigenvalue(self.fisher.product, like[:1], iterations=POWER_ITERATIONS, seed=config.lissa_seed)
        return SCALE_MARGIN * (largest + config.damping)

    def _precondition(self, vectors: Tensor) -> Tensor:
        """Apply the inverse of the curvature in eigen form."""
        shapes = self.explainer.subject.coverage.blocks
        gradients = {name: DenseGradients(values) for name, values in by_layer(vectors, shapes).items()}
        return torch.cat([values.flatten(1) for values in self.explainer.curvature.solve(gradients).values()], dim=1)


def load_solver(source: Source, train_shards: Sequence[Shard], config: CurvatureConfig, worker: Worker) -> Solver:
    """Load a copy of the model for each of a worker's threads, and the curvature in eigen form."""
    task = source.load_task()
    copies = [load_covered_model(source, task, config, worker.device) for _ in range(worker.width)]
    curvature = load_eigen_form(source, config, worker.device)
    explainer = Explainer(task, copies[0], curvature, worker, numerators_are_solved=True)
    return Solver(config, explainer, FisherProducts(source, train_shards, copies, worker))
