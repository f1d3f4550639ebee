"""Iterative solvers against torch.linalg.solve, on matrices with a known spectrum."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.iterative import (
    check_residuals,
    conjugate_gradients,
    largest_eigenvalue,
    lissa,
    relative_residuals,
)
from relatif.schemas.errors import NumericalError

torch.set_num_threads(1)

SIZE, RIGHT_HAND_SIDES, DAMPING = 40, 6, 1e-2


def problem(largest: float = 3.0) -> tuple[Tensor, Tensor]:
    """Return a curvature of rank SIZE / 2 and right-hand sides, the third of them zero."""
    generator = torch.Generator().manual_seed(1)
    basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, generator=generator, dtype=torch.float64))
    spectrum = torch.zeros(SIZE, dtype=torch.float64)
    spectrum[: SIZE // 2] = torch.logspace(-3, 0, SIZE // 2, dtype=torch.float64) * largest
    gradients = torch.randn(RIGHT_HAND_SIDES, SIZE, generator=generator, dtype=torch.float64)
    gradients[2] = 0
    return basis @ torch.diag(spectrum) @ basis.T, gradients


def solved(matrix: Tensor, gradients: Tensor) -> Tensor:
    return torch.linalg.solve(matrix + DAMPING * torch.eye(SIZE, dtype=torch.float64), gradients.T).T


def same(vectors: Tensor) -> Tensor:
    return vectors


def test_conjugate_gradients_solve() -> None:
    matrix, gradients = problem()
    found = conjugate_gradients(
        lambda v: v @ matrix, gradients, damping=DAMPING, precondition=same, tolerance=1e-10, max_iterations=100
    )
    expected = solved(matrix, gradients)
    assert float((found.values - expected).norm() / expected.norm()) < 1e-8
    assert bool((found.residuals <= 1e-10).all())
    assert torch.equal(found.values[2], torch.zeros(SIZE, dtype=torch.float64))
    assert found.iterations[2] == 0
    assert bool((found.iterations[[0, 1, 3, 4, 5]] > 5).all())


def test_the_inverse_as_preconditioner_needs_one_iteration() -> None:
    matrix, gradients = problem()
    found = conjugate_gradients(
        lambda v: v @ matrix,
        gradients,
        damping=DAMPING,
        precondition=lambda v: solved(matrix, v),
        tolerance=1e-8,
        max_iterations=100,
    )
    assert int(found.iterations.max()) == 1


def test_too_few_iterations_raise_with_the_residual() -> None:
    matrix, gradients = problem()
    with pytest.raises(
        NumericalError, match=r"1e-08 \(curvature.cg_tolerance\), found \d\S* at right-hand side \d of 6"
    ):
        conjugate_gradients(
            lambda v: v @ matrix, gradients, damping=DAMPING, precondition=same, tolerance=1e-8, max_iterations=3
        )


def test_lissa_converges_to_the_solution() -> None:
    matrix, gradients = problem()
    found = lissa(lambda v, step: v @ matrix, gradients, damping=DAMPING, scale=4.0, depth=8000)
    expected = solved(matrix, gradients)
    assert float((found - expected).norm() / expected.norm()) < 1e-6
    residuals = relative_residuals(lambda v: v @ matrix, gradients, found, damping=DAMPING)
    assert float(residuals.max()) < 1e-6
    assert residuals[2] == 0


def test_lissa_averages_over_curvatures_that_change_from_step_to_step() -> None:
    matrix, gradients = problem()
    noise = torch.Generator().manual_seed(5)
    shaken = [matrix * float(1 + 0.3 * torch.randn(1, generator=noise)) for _ in range(400)]
    found = lissa(lambda v, step: v @ shaken[step % 400], gradients, damping=DAMPING, scale=20.0, depth=20_000)
    expected = solved(matrix, gradients)
    assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.999


def test_divergence_is_told() -> None:
    matrix, gradients = problem(largest=30.0)
    with pytest.raises(NumericalError, match=r"diverge within \d+ steps at a scale of 4; raise curvature.lissa_scale"):
        lissa(lambda v, step: v @ matrix, gradients, damping=DAMPING, scale=4.0, depth=8000)


def test_largest_eigenvalue_by_power_iteration() -> None:
    matrix, gradients = problem(largest=7.0)
    found = largest_eigenvalue(lambda v: v @ matrix, gradients[:1], iterations=100, seed=0)
    assert found == pytest.approx(7.0, rel=1e-3)
    assert largest_eigenvalue(lambda v: 0 * v, gradients[:1], iterations=100, seed=0) == 0


def test_residuals_that_are_no_numbers_do_not_pass() -> None:
    check_residuals(torch.tensor([0.1, 0.2]), 0.2 + 1e-6, "it", "lissa_")
    with pytest.raises(NumericalError, match="found nan at right-hand side 1 of 2 by it"):
        check_residuals(torch.tensor([0.1, torch.nan]), 0.5, "it", "lissa_")
