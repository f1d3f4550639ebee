"""Solving (H + lambda I) s = g for many g at once, given products with H alone: conjugate gradients and LiSSA.

Axes: R right-hand sides, P parameters side by side. Both return ``s_test`` of Appendix C for test gradients g.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.schemas.errors import NumericalError

Product = Callable[[Tensor], Tensor]
"""From vectors [R, P] to H v for each of them, [R, P]."""

StepProduct = Callable[[Tensor, int], Tensor]
"""The same with the curvature of the examples that are drawn for a step, by the step's number."""

CHECKED_EVERY = 10
"""Steps of LiSSA between looks for divergence."""

DIVERGED = 10.0
"""How far beyond the bound of a recursion that converges a step may be: single batches may lie above the scale."""


@dataclass(frozen=True)
class Solutions:
    """Solutions [R, P], the relative residuals ``||g - (H + lambda I) s|| / ||g||`` [R], and the iterations of each."""

    values: Tensor
    residuals: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class ConjugateGradients:
    """Preconditioned conjugate gradients, until the relative residual is at most ``tolerance``."""

    tolerance: float
    max_iterations: int

    def solve(self, product: Product, gradients: Tensor, *, damping: float, precondition: Product) -> Solutions:
        """Solve (H + lambda I) s = g for each right-hand side [R, P] on its own.

        ``precondition`` applies an approximate, positive definite inverse. A right-hand side is done when its
        recurrence reaches the tolerance; the residuals returned are measured anew. A zero gradient has the
        solution zero.

        Raises NumericalError, with the residual, when ``max_iterations`` do not reach the tolerance.
        """
        # Each right-hand side has its own direction p, step length and energy r' M r, with M the preconditioner.
        norms = gradients.norm(dim=1)
        solution, residual = torch.zeros_like(gradients), gradients.clone()
        preconditioned = precondition(residual)
        direction, energy = preconditioned.clone(), (residual * preconditioned).sum(dim=1)
        iterations = torch.zeros(len(gradients), dtype=torch.int64, device=gradients.device)
        for _ in range(self.max_iterations):
            # To half the tolerance: this recurrence drifts from the residual that is measured in the end.
            (active,) = torch.nonzero(residual.norm(dim=1) > self.tolerance / 2 * norms, as_tuple=True)
            if not len(active):
                break
            moved = product(direction[active]) + damping * direction[active]
            # The length that is best along p; the next p is conjugate to it under H + lambda I.
            step = (energy[active] / (direction[active] * moved).sum(dim=1))[:, None]
            solution[active] += step * direction[active]
            residual[active] -= step * moved
            preconditioned = precondition(residual[active])
            renewed = (residual[active] * preconditioned).sum(dim=1)
            direction[active] = preconditioned + (renewed / energy[active])[:, None] * direction[active]
            energy[active] = renewed
            iterations[active] += 1
        residuals = relative_residuals(product, gradients, solution, damping=damping)
        check_residuals(
            residuals, self.tolerance, f"conjugate gradients after at most {self.max_iterations} iterations"
        )
        return Solutions(solution, residuals, iterations)


@dataclass(frozen=True)
class Lissa:
    """LiSSA: the mean of ``repeats`` recursions of ``depth`` steps (Agarwal, Bullins, Hazan 2017; Koh, Liang 2017).

    ``scale`` divides the curvature and has to lie above the largest eigenvalue of that of a step's examples.
    """

    depth: int
    repeats: int
    scale: float
    tolerance: float

    def solve(self, product: Product, step_product: StepProduct, gradients: Tensor, *, damping: float) -> Solutions:
        """Solve (H + lambda I) s = g for right-hand sides [R, P], steps by ``step_product``, residuals by ``product``.

        Raises NumericalError where it diverges, and where a residual is above the tolerance.
        """
        total = torch.zeros_like(gradients)
        for _ in range(self.repeats):
            total += self.recursion(step_product, gradients, damping=damping)
        found = total / self.repeats
        residuals = relative_residuals(product, gradients, found, damping=damping)
        steps = self.depth * self.repeats
        check_residuals(residuals, self.tolerance, f"LiSSA after {steps} steps")
        return Solutions(found, residuals, torch.full((len(gradients),), steps))

    def recursion(self, product: StepProduct, gradients: Tensor, *, damping: float) -> Tensor:
        """Return one estimate of ``(H + lambda I)^-1 g``, [R, P].

        ``s <- g + s - (H_step + lambda I) s / scale`` from s = g for ``depth`` steps, divided by ``scale`` in the end.
        Raises NumericalError when it diverges.
        """
        solution = gradients.clone()
        # With eigenvalues up to the scale a step shrinks s by 1 - lambda / scale at least, and adds g: |s| stays below
        # |g| scale / lambda.
        bound = DIVERGED * max(1.0, self.scale / damping) * gradients.norm()
        # A norm beyond this comes from divergence, and its square is still finite.
        largest = torch.clamp(bound, max=torch.finfo(gradients.dtype).max ** 0.25)
        for step in range(self.depth):
            solution = gradients + solution - (product(solution, step) + damping * solution) / self.scale
            # `not <=` holds for norms that are not numbers, too.
            if step % CHECKED_EVERY == 0 and not bool(solution.norm() <= largest):
                raise NumericalError(
                    f"expected LiSSA to converge, found it to diverge within {step + 1} steps at a scale of "
                    f"{self.scale:g}; raise the scale above the largest eigenvalue of the curvature of a batch, or use "
                    f"larger batches"
                )
        # The recursion's fixed point is scale (H + lambda I)^-1 g.
        return solution / self.scale


def largest_eigenvalue(product: Product, like: Tensor, *, iterations: int, seed: int) -> float:
    """Estimate a curvature's largest eigenvalue from below, by power iteration from a random vector like [1, P]."""
    generator = torch.Generator().manual_seed(seed)
    vector = torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like)
    value = 0.0
    for _ in range(iterations):
        # For a unit vector |H v| never exceeds the largest eigenvalue, so the estimate rises towards it.
        moved = product(vector / vector.norm())
        value, vector = float(moved.norm()), moved
        if value == 0:
            break
    return value


def relative_residuals(product: Product, gradients: Tensor, solutions: Tensor, *, damping: float) -> Tensor:
    """Return ``||g - (H + lambda I) s|| / ||g||``, [R]; zero for a zero gradient with a zero solution."""
    missing = (gradients - product(solutions) - damping * solutions).norm(dim=1)
    norms = gradients.norm(dim=1)
    return torch.where(missing == 0, 0.0, missing / norms)


def check_residuals(residuals: Tensor, tolerance: float, how: str) -> None:
    """Raise NumericalError, with the worst residual and its row, where one exceeds the tolerance or is not a number."""
    if not bool((residuals <= tolerance).all()):
        worst = int(residuals.nan_to_num(torch.inf).argmax())
        raise NumericalError(
            f"expected a relative residual of at most {tolerance:g}, found {float(residuals[worst]):.3g} at right-hand "
            f"side {worst} of {len(residuals)} by {how}; allow more iterations, raise the damping, or raise the "
            f"tolerance"
        )
