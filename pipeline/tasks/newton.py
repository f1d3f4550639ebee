"""Retraining a logistic regression: Newton steps in float64 to the only optimum, from a factorized Hessian.

Axes: C classes, I inputs with the bias folded in, P = C I parameters, class after class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import pairwise

import torch
from torch import Tensor

from relatif.pipeline.tasks.softmax import folded_inputs, hessian_row, loss_and_gradient, require_plain
from relatif.pipeline.tasks.task import Batch, Task, TrainingSet, tell
from relatif.schemas.config import TrainConfig
from relatif.schemas.errors import ConfigurationError, ModelError, NumericalError

LAST_STEP = 1e-9
"""Length of the step with which a search ends: far below what leaving an example out moves (1e-5 and more), and far
above the rounding of a step (gradients to about 1e-15, divided by curvatures from the weight decay on)."""

MAX_STEPS = 100

THETA, FACTOR = "theta", "factor"


@dataclass(frozen=True)
class NewtonRetraining:
    """Trains a softmax regression again, from the optimum of the whole training set.

    All retrainings share the Cholesky factor of the Hessian at the trained parameters: a step then costs one pass over
    the training set for the gradient, two triangular solves, and a correction from the steps before it.
    """

    def prepare(
        self, task: Task, data: TrainingSet, config: TrainConfig, trained: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return the optimum theta [C, I] and the lower Cholesky factor [P, P] of the Hessian.

        Raises as ``run`` does, and ModelError for parameters that are no linear layer's.
        """
        _check_unique(config)
        require_plain(task)
        if set(trained) != {"linear.weight", "linear.bias"}:
            raise ModelError(
                f"expected the parameters linear.weight and linear.bias of a logistic regression, found "
                f"{sorted(trained)}; give the task a retraining of its own, or none"
            )
        start = torch.cat([trained["linear.weight"], trained["linear.bias"][:, None]], dim=1).double()
        theta, factor = _optimum(_Objective(task, data, config.weight_decay), start, None)
        return {THETA: theta, FACTOR: factor}

    def run(self, task: Task, data: TrainingSet, config: TrainConfig, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the optimum of ``data``, float64.

        Raises NumericalError where steps don't become shorter than LAST_STEP, ConfigurationError without weight decay.
        """
        _check_unique(config)
        objective = _Objective(task, data, config.weight_decay)
        theta, _ = _optimum(objective, prepared[THETA], prepared[FACTOR])
        return {"linear.weight": theta[:, :-1].contiguous(), "linear.bias": theta[:, -1].contiguous()}


@dataclass(frozen=True)
class _Objective:
    """Mean loss + weight_decay / 2 ||theta||^2; sums run over shards in index order."""

    task: Task
    data: TrainingSet
    weight_decay: float

    def gradient(self, theta: Tensor) -> Tensor:
        """Return the gradient [C, I]."""
        terms = self.data.batches(partial(self._gradient, theta))
        return reduce(torch.add, terms) / self.data.rows + self.weight_decay * theta

    def hessian(self, theta: Tensor) -> Tensor:
        """Return the lower half of the Hessian [P, P], a class at a time: a shard's part is one row of blocks."""
        classes, width = theta.shape
        matrix = torch.zeros(theta.numel(), theta.numel(), dtype=torch.float64)
        for output in range(classes):
            terms = self.data.batches(partial(self._hessian_row, theta, output))
            blocks = reduce(Tensor.add_, terms).div_(self.data.rows)
            # Blocks of this class with itself and later ones: the columns from its diagonal block down.
            columns = slice(output * width, (output + 1) * width)
            matrix[output * width :, columns] = blocks.mT.flatten(0, 1)
        # Weight decay d / 2 ||theta||^2 has the Hessian d I.
        matrix.diagonal().add_(self.weight_decay)
        return matrix

    def _gradient(self, theta: Tensor, batch: Batch) -> Tensor:
        return loss_and_gradient(theta, folded_inputs(self.task, batch), batch.labels)[1]

    def _hessian_row(self, theta: Tensor, output: int, batch: Batch) -> Tensor:
        return hessian_row(theta, folded_inputs(self.task, batch), output)


def _optimum(objective: _Objective, theta: Tensor, factor: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the optimum [C, I] and the last factor, from a start and, if there is one, a factor.

    The factor is kept as long as steps become shorter: a new Hessian costs as much as hundreds of gradients.
    """
    held = _factorized(objective, theta) if factor is None else factor
    before, steps = torch.inf, list[Tensor]()
    for _ in range(MAX_STEPS):
        steps.append(_corrected(-_solved(held, objective.gradient(theta)), steps))
        length = float(steps[-1].norm())
        tell(objective.data, None, f"Newton step of length {length:.2g}, to end at {LAST_STEP:g}")
        theta = theta + steps[-1]
        if length <= LAST_STEP:
            return theta, held
        # The Hessian here is too far from the factor's. Broyden's corrections belong to the old factor, so they go too.
        if not length < before:
            held, steps = _factorized(objective, theta), []
        before = length
    raise NumericalError(
        f"expected retraining to reach Newton steps of at most {LAST_STEP:g}, found {length:.3g} after {MAX_STEPS} "
        f"steps; raise train.weight_decay, or train nearer to the optimum by a lower train.tolerance"
    )


def _corrected(step: Tensor, before: Sequence[Tensor]) -> Tensor:
    """Return Broyden's step, given the step by the factorized Hessian and the steps before it.

    Each earlier step shows how the gradient changes along it. Broyden's good update brings that in by a rank-one change
    of the inverse for each step (Kelley 1995, chapter 7), and saves about a third of the passes.
    """
    if not before:
        return step
    # After ``earlier`` the inverse was multiplied by I + later earlier' / |earlier|^2.
    for earlier, later in pairwise(before):
        step = step + later * _share(earlier, step)
    # The factor of the last step contains the step that is sought: solving for it leaves a division.
    return step / (1 - _share(before[-1], step))


def _share(direction: Tensor, step: Tensor) -> Tensor:
    return (direction * step).sum() / direction.square().sum()


def _factorized(objective: _Objective, theta: Tensor) -> Tensor:
    # On a thread of the pool: factorized by several cores together, its last bits would depend on their number.
    (found,) = objective.data.map(torch.linalg.cholesky_ex, [objective.hessian(theta)])
    if int(found.info) or not bool(theta.isfinite().all()):
        raise NumericalError(
            "expected a positive definite Hessian of the training loss where retraining searches, found none; raise "
            "train.weight_decay, or train nearer to the optimum by a lower train.tolerance"
        )
    return found.L


def _solved(factor: Tensor, gradient: Tensor) -> Tensor:
    """Return ``(L L')^-1 g``: by two triangular solves, which for one right-hand side beat ``cholesky_solve``."""
    half = torch.linalg.solve_triangular(factor, gradient.reshape(-1, 1), upper=False)
    return torch.linalg.solve_triangular(factor.mT, half, upper=True).reshape(gradient.shape)


def _check_unique(config: TrainConfig) -> None:
    if config.weight_decay <= 0:
        raise ConfigurationError(
            f"expected train.weight_decay above 0 to retrain a logistic regression, found {config.weight_decay:g}: "
            f"without it no optimum is the only one; raise it"
        )
