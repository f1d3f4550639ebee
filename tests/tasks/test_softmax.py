"""Sums of softmax regression against automatic differentiation, and the Hessian against the dense Fisher."""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.tasks.logistic import mnist_logistic
from relatif.pipeline.tasks.softmax import folded_inputs, hessian_row, loss_and_gradient

N, CLASSES, WIDTH = 30, 4, 6
EXACT = 1e-12
"""Float64 throughout; sums of 30 terms of order 1."""


@dataclass(frozen=True)
class Stored:
    inputs: Tensor
    labels: Tensor


def problem() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    theta, inputs = (
        torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((CLASSES, WIDTH), (N, WIDTH))
    )
    return theta, inputs, torch.randint(0, CLASSES, (N,), generator=generator)


def loss(theta: Tensor, inputs: Tensor, labels: Tensor) -> Tensor:
    return torch.nn.functional.cross_entropy(inputs @ theta.T, labels, reduction="sum")


def test_loss_and_gradient() -> None:
    theta, inputs, labels = problem()
    value, gradient = loss_and_gradient(theta, inputs, labels)
    expected = torch.func.grad(loss)(theta, inputs, labels)
    torch.testing.assert_close(value, loss(theta, inputs, labels), rtol=EXACT, atol=0)
    torch.testing.assert_close(gradient, expected, rtol=0, atol=EXACT)


def test_rows_of_the_hessian() -> None:
    theta, inputs, labels = problem()
    expected = torch.func.hessian(loss)(theta, inputs, labels)
    for output in range(CLASSES):
        found = hessian_row(theta, inputs, output)
        torch.testing.assert_close(found, expected[output, :, output:].transpose(0, 1), rtol=0, atol=100 * EXACT)


def test_inputs_are_folded_in_float64() -> None:
    task = mnist_logistic()
    pixels = torch.randint(0, 256, (3, 28, 28), dtype=torch.uint8)
    folded = folded_inputs(task, Stored(pixels, torch.zeros(3, dtype=torch.int64)))
    assert folded.dtype == torch.float64
    torch.testing.assert_close(folded[:, :-1], task.model_inputs(pixels).flatten(1).double(), rtol=0, atol=0)
    assert bool((folded[:, -1] == 1).all())
