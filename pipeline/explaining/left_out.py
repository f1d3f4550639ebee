"""What leaving a training example out changes, with the example's own curvature taken along.

Axes: O numbers among a model's outputs for one example, of a test input O_t.

Without example i the weights of the others stay 1/n, and the step from the trained parameters is the Newton step of
what is left. With J the Jacobian of i's outputs, [O, P], d the gradient of its loss at them and L the Hessian there,
it is ``(H + lambda I - J'L J / n)^-1 J'd / n``, which is ``(H + lambda I)^-1 J'(I - L K / n)^-1 d / n`` with
``K = J (H + lambda I)^-1 J'`` (Woodbury). The test input is measured at the outputs that the step leads to, instead of
by its slope. First order keeps neither: influence / n (Eq. 5).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.eigen import influence
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.gradients import concatenate
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import Measurement
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.explaining.explainer import Explainer

JACOBIAN_BYTES = 1 << 30
"""Largest Jacobian of one example's outputs, as if no layer's gradients were factored."""

STEP, DIFFERENCE, ROUNDED = 1e-4, 1e-3, 1e-9
"""Second derivatives are compared with differences of the gradient over a step, to this part of them; over the step
float64's rounding counts 1e-12 of the gradient."""


@dataclass(frozen=True)
class OutputGradients:
    """One example's outputs, O numbers [1, ...], its target, and its Jacobian: Q'g of each output, O rows by block."""

    outputs: Tensor
    target: Tensor
    gradients: Mapping[str, LayerGradients]


def output_gradients(explainer: Explainer, example: Examples, explained: str | int) -> OutputGradients | None:
    """Differentiate every output of one example, a batch of 1; None where its Jacobian takes over JACOBIAN_BYTES."""
    with explainer.lock:
        subject = explainer.subject
        outputs = forward_pass(subject.model, example.inputs, subject.coverage).outputs.detach()
        parameters = sum(rows * columns for rows, columns in subject.coverage.blocks.values())
        width = outputs.numel()
        if width * parameters * outputs.element_size() > JACOBIAN_BYTES:
            return None
        target = subject.likelihood.explained(outputs, example.targets, explained)
        found = [explainer.curvature.rotate(rows) for rows in _jacobian(explainer, example, width)]
    gradients = {name: concatenate([rows[name] for rows in found]) for name in found[0]}
    return OutputGradients(outputs, target, gradients)


def _jacobian(explainer: Explainer, example: Examples, width: int) -> Iterator[Mapping[str, LayerGradients]]:
    """Yield the gradients of consecutive outputs: those of copies of the example, one for each output."""
    same = [0] * width
    copies = Examples(batches.rows(example.inputs, same), example.targets[same], 0)
    for piece in pieces(explainer.subject, copies):
        forward = forward_pass(explainer.subject.model, piece.inputs, explainer.subject.coverage)
        chosen = torch.eye(width).to(forward.outputs)[piece.first_index : piece.first_index + len(piece)]
        yield forward.gradients(forward.backward(chosen.reshape(forward.outputs.shape)))


def corrected_change(
    explainer: Explainer,
    test: OutputGradients | None,
    left_out: OutputGradients | None,
    measured: Measurement,
    count: int,
) -> float:
    """Return what leaving an example out of ``count`` changes of a test input's measurement; NaN where nothing does.

    That is where the example's leverage reaches 1, so that nothing but the example decides some direction, where its
    loss can't be differentiated twice, and where a Jacobian is missing.
    """
    if test is None or left_out is None:
        return float("nan")
    curvature, likelihood = explainer.curvature, explainer.subject.likelihood
    kernel = influence(curvature, left_out.gradients, left_out.gradients)
    step = step_at_outputs(kernel, *_derivatives(likelihood, left_out), count)
    if step is None:
        return float("nan")
    moved = influence(curvature, test.gradients, left_out.gradients) @ step
    after = measured.values(test.outputs + moved.reshape(test.outputs.shape), test.target)
    return float(after - measured.values(test.outputs, test.target))


def step_at_outputs(kernel: Tensor, gradient: Tensor, hessian: Tensor | None, count: int) -> Tensor | None:
    """Return ``(I - L K / n)^-1 d / n``, [O], for K and L [O, O] and d [O]; None without L and at leverage 1."""
    if hessian is None:
        return None
    values, vectors = torch.linalg.eigh((kernel + kernel.T) / 2)
    root = vectors * values.clamp(min=0.0).sqrt()
    # I - L K / n has the eigenvalues of I - K^(1/2) L K^(1/2) / n: the largest leverage is 1 less the smallest.
    leverages = torch.linalg.eigvalsh(root.T @ hessian @ root / count)
    if not float(leverages.max()) < 1.0:
        return None
    unit = torch.eye(len(gradient)).to(gradient)
    return torch.linalg.solve(unit - hessian @ kernel / count, gradient / count)


def _derivatives(likelihood: Likelihood, example: OutputGradients) -> tuple[Tensor, Tensor | None]:
    """Return d [O] and L [O, O] of an example's loss at its outputs; None for L where that has no second derivative."""
    shape = example.outputs.shape

    def loss(outputs: Tensor) -> Tensor:
        return likelihood.losses(outputs.reshape(shape), example.target).sum()

    point = example.outputs.flatten()
    gradient = likelihood.gradient(example.outputs, example.target).flatten()
    try:
        hessian = torch.autograd.functional.hessian(loss, point)
    except RuntimeError:
        return gradient, None
    # A loss with a backward pass of its own may leave out what its second derivative depends on, without an error.
    direction = torch.arange(1.0, len(point) + 1).to(point).cos()
    ahead, behind = (
        likelihood.gradient((point + step * direction).reshape(shape), example.target).flatten()
        for step in (STEP, -STEP)
    )
    apart = (ahead - behind) / (2 * STEP) - hessian @ direction
    allowed = DIFFERENCE * (hessian @ direction).norm() + ROUNDED * (1 + gradient.norm())
    return gradient, hessian if bool(apart.norm() <= allowed) else None
