"""What leaving examples out changes, for many pairs of test inputs and training examples: ``left_out`` batch by batch.

Axes: M test inputs, U training examples, B pairs, O numbers among a model's outputs for one example.

Of a training example the step at its outputs, ``v = (I - L K / n)^-1 d / n``, is computed once, from its Jacobian. Of a
pair only ``J_t (H + lambda I)^-1 J_i' v_i`` is needed, and ``J_i' v_i`` is one backward pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

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
from relatif.pipeline.explaining import left_out
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.left_out import DIFFERENCE, ROUNDED, STEP, output_gradients

JACOBIANS_BYTES = 1 << 26
"""Jacobians of a batch of training examples that are held at once, as if no layer's gradients were factored."""


@dataclass(frozen=True)
class Removal:
    """One example is left out of ``count``, and the ``explained`` target of a test input is measured."""

    explained: str | int
    measured: Measurement
    count: int


def without_correction(explainer: Explainer, examples: Examples) -> str | None:
    """Return why no change of the examples' outputs can be corrected, from the first of them; None where it can."""
    if explainer.numerators_are_solved:
        return "expected a curvature in eigen form, found one that is solved for; choose kfac, ekfac or exact"
    width, size = _outputs_and_bytes(explainer, examples)
    if size <= left_out.JACOBIAN_BYTES:
        return None
    return (
        f"expected a Jacobian of one example's outputs of at most {left_out.JACOBIAN_BYTES / 2**30:.3g} GiB, found "
        f"{size / 2**30:.3g} GiB for {width:,} numbers; compare with influence / n instead"
    )


def corrected_changes(
    explainer: Explainer, tests: Examples, trains: Examples, pairs: Sequence[tuple[int, int]], removal: Removal
) -> Tensor:
    """Return what each pair's removal changes of its test input's measurement, [B] float64, as ``corrected_change``.

    A pair is a place in ``tests`` [M] and one in ``trains`` [U], whose targets are their own. NaN where leverage
    reaches 1, where the training loss has no second derivative, and where ``without_correction`` says why.
    """
    changes = torch.full((len(pairs),), float("nan"), dtype=torch.float64)
    if not pairs or without_correction(explainer, trains) is not None:
        return changes
    wanted = sorted({train for _, train in pairs})
    found = output_steps(explainer, _rows(trains, wanted), removal.count)
    steps = found.new_full((len(trains), found.shape[1]), float("nan"))
    steps[wanted] = found
    usable = steps.isfinite().all(dim=1).tolist()
    places = sorted((place for place, (_, train) in enumerate(pairs) if usable[train]), key=lambda place: pairs[place])
    for test, of_test in groupby(places, key=lambda place: pairs[place][0]):
        mine = list(of_test)
        rows = [pairs[place][1] for place in mine]
        moved = _moved(explainer, tests.rows(test, test + 1), (_rows(trains, rows), steps[rows]), removal)
        changes[mine] = moved.double().cpu()
    return changes


def output_steps(explainer: Explainer, trains: Examples, count: int) -> Tensor:
    """Return ``(I - L K / n)^-1 d / n`` of every training example, [U, O]; NaN for one that has none."""
    _, size = _outputs_and_bytes(explainer, trains)
    rows = max(1, JACOBIANS_BYTES // size)
    found = []
    for start in range(0, len(trains), rows):
        with explainer.lock:
            parts = list(pieces(explainer.subject, trains.rows(start, start + rows)))
        found += [_steps(explainer, part, count) for part in parts]
    return torch.cat(found)


def steps_at_outputs(kernels: Tensor, gradients: Tensor, hessians: Tensor, count: int) -> Tensor:
    """Return ``(I - L K / n)^-1 d / n``, [U, O], for K and L [U, O, O] and d [U, O]; NaN at leverage 1."""
    values, vectors = torch.linalg.eigh((kernels + kernels.mT) / 2)
    roots = vectors * values.clamp(min=0.0).sqrt()[:, None]
    leverages = torch.linalg.eigvalsh(roots.mT @ hessians @ roots / count)
    below = leverages.amax(dim=1) < 1.0
    steps = torch.full_like(gradients, float("nan"))
    unit = torch.eye(gradients.shape[1]).to(gradients)
    left = unit - hessians[below] @ kernels[below] / count
    steps[below] = torch.linalg.solve(left, gradients[below, :, None] / count)[..., 0]
    return steps


def _steps(explainer: Explainer, trains: Examples, count: int) -> Tensor:
    """Return the steps at the outputs of some training examples: of each output one backward pass."""
    subject, curvature = explainer.subject, explainer.curvature
    with explainer.lock:
        forward = forward_pass(subject.model, trains.inputs, subject.coverage, first_index=trains.first_index)
        outputs = forward.outputs.detach()
        width = outputs[0].numel()
        found = []
        for number in range(width):
            chosen = torch.zeros_like(outputs).flatten(1)
            chosen[:, number] = 1.0
            kept = number + 1 < width
            at_uses = forward.backward(chosen.reshape(outputs.shape), keep_graph=kept)
            found.append(curvature.rotate(forward.gradients(at_uses)))
    jacobians = {name: concatenate([rows[name] for rows in found]) for name in found[0]}
    kernels = _kernels(explainer, jacobians, width)
    targets = subject.likelihood.explained(outputs, trains.targets, "true")
    gradients, hessians, twice = _derivatives(subject.likelihood, outputs, targets)
    steps = steps_at_outputs(kernels.to(gradients), gradients, hessians, count)
    return torch.where(twice[:, None], steps, float("nan"))


def _kernels(explainer: Explainer, jacobians: Mapping[str, LayerGradients], width: int) -> Tensor:
    """Return K, [U, O, O], from the rotated gradients of O x U rows, output after output."""
    total: Tensor | float = 0.0
    for name, gradients in jacobians.items():
        weights = explainer.curvature.inverse(name)
        for part in gradients.parts(gradients.count):
            rows = gradients.entries(part).flatten(1).unflatten(0, (width, -1)).transpose(0, 1)
            scaled = rows * part.of(weights).to(rows.dtype).flatten()
            total = total + (scaled @ rows.mT).double()
    assert isinstance(total, Tensor)
    return total


def _moved(explainer: Explainer, test: Examples, left: tuple[Examples, Tensor], removal: Removal) -> Tensor:
    """Return what leaving out some examples, with their steps, each changes of one test input's measurement."""
    explained = output_gradients(explainer, test, removal.explained)
    trains, steps = left
    if explained is None:
        return steps.new_full((len(trains),), float("nan"))
    moved = torch.cat(
        [
            influence(explainer.curvature, explained.gradients, directions)
            for directions in _directions(explainer, trains, steps)
        ],
        dim=1,
    )
    outputs = explained.outputs + moved.T.reshape(len(trains), *explained.outputs.shape[1:])
    targets = explained.target.expand(len(trains), *explained.target.shape[1:])
    before = removal.measured.values(explained.outputs, explained.target)
    return removal.measured.values(outputs, targets) - before


def _directions(explainer: Explainer, trains: Examples, steps: Tensor) -> Iterator[Mapping[str, LayerGradients]]:
    """Yield Q'J'v of the training examples, piece by piece."""
    subject, start = explainer.subject, 0
    with explainer.lock:
        parts = list(pieces(subject, trains))
    for part in parts:
        with explainer.lock:
            forward = forward_pass(subject.model, part.inputs, subject.coverage, first_index=part.first_index)
            chosen = steps[start : start + len(part)].to(forward.outputs).reshape(forward.outputs.shape)
            found = explainer.curvature.rotate(forward.gradients(forward.backward(chosen)))
        start += len(part)
        yield found


def _derivatives(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return d [U, O] and L [U, O, O] of examples' losses at their outputs, and which can be differentiated twice."""
    shape = outputs.shape
    gradient = likelihood.gradient(outputs, targets).flatten(1)
    point = outputs.flatten(1)
    none = torch.zeros(len(point), dtype=torch.bool, device=point.device)
    try:
        hessian = _hessian(likelihood, outputs, targets)
    except RuntimeError:
        return gradient, point.new_zeros((*point.shape, point.shape[1])), none
    # As ``left_out`` does: a loss may leave out, without an error, what its second derivative depends on.
    direction = torch.arange(1.0, point.shape[1] + 1).to(point).cos()
    ahead, behind = (
        likelihood.gradient((point + step * direction).reshape(shape), targets).flatten(1) for step in (STEP, -STEP)
    )
    along = hessian @ direction
    apart = ((ahead - behind) / (2 * STEP) - along).norm(dim=1)
    return gradient, hessian, apart <= DIFFERENCE * along.norm(dim=1) + ROUNDED * (1 + gradient.norm(dim=1))


def _hessian(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the second derivatives of every example's loss, [U, O, O], for all examples at once."""
    point = outputs.flatten(1).detach().requires_grad_()
    with torch.enable_grad():
        losses = likelihood.losses(point.reshape(outputs.shape), targets).sum()
        (slope,) = torch.autograd.grad(losses, point, create_graph=True)
        if not slope.requires_grad:
            return point.new_zeros((*point.shape, point.shape[1]))
        rows = [
            torch.autograd.grad(each.sum(), point, retain_graph=True, materialize_grads=True)[0]
            for each in slope.unbind(dim=1)
        ]
    return torch.stack(rows, dim=1).detach()


def _outputs_and_bytes(explainer: Explainer, examples: Examples) -> tuple[int, int]:
    """Return how many numbers an example's outputs are, and the size of their Jacobian."""
    subject, first = explainer.subject, examples.rows(0, 1)
    with explainer.lock:
        outputs = forward_pass(subject.model, first.inputs, subject.coverage, first_index=first.first_index).outputs
    parameters = sum(rows * columns for rows, columns in subject.coverage.blocks.values())
    return outputs.numel(), outputs.numel() * parameters * outputs.element_size()


def _rows(examples: Examples, rows: Sequence[int]) -> Examples:
    """Return some examples, in the order that is asked for."""
    chosen = list(rows)
    return Examples(batches.rows(examples.inputs, chosen), examples.targets[chosen], examples.first_index)
