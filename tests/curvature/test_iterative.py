"""Iterative solvers against torch.linalg.solve, on matrices with a known spectrum."""

import pytest
import torch
from torch import Tensor

from relatif.pipeline.curvature.iterative import (
    ConjugateGradients,
    Lissa,
    check_residuals,
    largest_eigenvalue,
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
    found = ConjugateGradients(1e-10, 100).solve(lambda v: v @ matrix, gradients, damping=DAMPING, precondition=same)
    expected = solved(matrix, gradients)
    assert float((found.values - expected).norm() / expected.norm()) < 1e-8
    assert bool((found.residuals <= 1e-10).all())
    assert torch.equal(found.values[2], torch.zeros(SIZE, dtype=torch.float64))
    assert found.iterations[2] == 0
    assert bool((found.iterations[[0, 1, 3, 4, 5]] > 5).all())


def test_the_inverse_as_preconditioner_needs_one_iteration() -> None:
    matrix, gradients = problem()
    found = ConjugateGradients(1e-8, 100).solve(
        lambda v: v @ matrix, gradients, damping=DAMPING, precondition=lambda v: solved(matrix, v)
    )
    assert int(found.iterations.max()) == 1


def test_too_few_iterations_raise_with_the_residual() -> None:
    matrix, gradients = problem()
    message = r"at most 1e-08, found \d\S* at right-hand side \d of 6 by conjugate gradients after at most 3 iterations"
    with pytest.raises(NumericalError, match=message):
        ConjugateGradients(1e-8, 3).solve(lambda v: v @ matrix, gradients, damping=DAMPING, precondition=same)


def test_lissa_converges_to_the_solution() -> None:
    matrix, gradients = problem()
    solver = Lissa(depth=8000, repeats=2, scale=4.0, tolerance=1e-6)
    found = solver.solve(lambda v: v @ matrix, lambda v, step: v @ matrix, gradients, damping=DAMPING)
    expected = solved(matrix, gradients)
    assert float((found.values - expected).norm() / expected.norm()) < 1e-6
    residuals = relative_residuals(lambda v: v @ matrix, gradients, found.values, damping=DAMPING)
    assert torch.equal(found.residuals, residuals)
    assert float(residuals.max()) < 1e-6
    assert residuals[2] == 0
    assert found.iterations.tolist() == [16_000] * RIGHT_HAND_SIDES


def test_lissa_is_the_mean_of_its_recursions() -> None:
    matrix, gradients = problem()
    drawn = iter([1.0] * 5 + [0.5] * 5)
    solver = Lissa(depth=5, repeats=2, scale=4.0, tolerance=10.0)
    found = solver.solve(lambda v: v @ matrix, lambda v, step: v @ matrix * next(drawn), gradients, damping=DAMPING)
    parts = [by_series(share * matrix, gradients, depth=5, scale=4.0) for share in (1.0, 0.5)]
    torch.testing.assert_close(found.values, (parts[0] + parts[1]) / 2, rtol=1e-12, atol=0)


def by_series(matrix: Tensor, gradients: Tensor, *, depth: int, scale: float) -> Tensor:
    """Return ``sum_k (I - (H + lambda I) / scale)^k g / scale`` for k from 0 to the depth."""
    identity = torch.eye(SIZE, dtype=torch.float64)
    step = identity - (matrix + DAMPING * identity) / scale
    powers = sum((torch.linalg.matrix_power(step, k) for k in range(1, depth + 1)), identity)
    return gradients @ powers / scale


def test_too_few_steps_raise_with_the_residual() -> None:
    matrix, gradients = problem()
    solver = Lissa(depth=5, repeats=2, scale=4.0, tolerance=0.1)
    message = r"at most 0\.1, found \d\S* at right-hand side \d of 6 by LiSSA after 10 steps"
    with pytest.raises(NumericalError, match=message):
        solver.solve(lambda v: v @ matrix, lambda v, step: v @ matrix, gradients, damping=DAMPING)


def test_lissa_averages_over_curvatures_that_change_from_step_to_step() -> None:
    matrix, gradients = problem()
    noise = torch.Generator().manual_seed(5)
    shaken = [matrix * float(1 + 0.3 * torch.randn(1, generator=noise)) for _ in range(400)]
    solver = Lissa(depth=20_000, repeats=1, scale=20.0, tolerance=1.0)
    found = solver.recursion(lambda v, step: v @ shaken[step % 400], gradients, damping=DAMPING)
    expected = solved(matrix, gradients)
    assert float(torch.corrcoef(torch.stack([found.flatten(), expected.flatten()]))[0, 1]) > 0.999


def test_divergence_is_told() -> None:
    matrix, gradients = problem(largest=30.0)
    with pytest.raises(NumericalError, match=r"diverge within \d+ steps at a scale of 4; raise the scale above"):
        Lissa(8000, 1, 4.0, 0.5).recursion(lambda v, step: v @ matrix, gradients, damping=DAMPING)


def test_largest_eigenvalue_by_power_iteration() -> None:
    matrix, gradients = problem(largest=7.0)
    found = largest_eigenvalue(lambda v: v @ matrix, gradients[:1], iterations=100, seed=0)
    assert found == pytest.approx(7.0, rel=1e-3)
    assert largest_eigenvalue(lambda v: 0 * v, gradients[:1], iterations=100, seed=0) == 0


def test_residuals_that_are_no_numbers_do_not_pass() -> None:
    check_residuals(torch.tensor([0.1, 0.2]), 0.2 + 1e-6, "it")
    with pytest.raises(NumericalError, match="found nan at right-hand side 1 of 2 by it"):
        check_residuals(torch.tensor([0.1, torch.nan]), 0.5, "it")


def test_a_solution_that_is_not_a_number_has_no_residual_of_zero() -> None:
    """Batches far above the scale blow the recursion up between two looks for divergence."""
    gradients = torch.ones(2, 3, dtype=torch.float64)
    solver = Lissa(depth=8, repeats=1, scale=1.0, tolerance=0.5)
    with pytest.raises(NumericalError, match="found nan at right-hand side"):
        solver.solve(lambda vectors: vectors, lambda vectors, step: vectors * 1e200 * step, gradients, damping=0.1)


def test_divergence_is_told_from_the_first_products() -> None:
    """The largest eigenvalue is 3, so that at a scale of 1.4 its part grows by a seventh in each step."""
    matrix, gradients = problem()
    taken = []

    def product(vectors: Tensor, step: int) -> Tensor:
        taken.append(step)
        return vectors @ matrix

    with pytest.raises(NumericalError, match="found it to diverge"):
        Lissa(depth=5000, repeats=1, scale=1.4, tolerance=0.5).recursion(product, gradients, damping=DAMPING)
    assert len(taken) <= 120


def test_a_recursion_that_converges_slowly_is_no_divergence() -> None:
    """Right-hand sides outside the curvature's range grow by 1 / lambda, as far as any can."""
    matrix = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    _, gradients = problem()
    found = Lissa(depth=4000, repeats=1, scale=2.0, tolerance=0.5).recursion(
        lambda v, step: v @ matrix, gradients, damping=DAMPING
    )
    torch.testing.assert_close(found, gradients / DAMPING)
