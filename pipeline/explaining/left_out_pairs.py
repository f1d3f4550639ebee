"""What leaving examples out changes, for many pairs of test inputs and training examples: ``left_out`` batch by batch.

Axes: M test inputs, U training examples, B pairs, O numbers among a model's outputs for one example.

Of a training example the step at its outputs, ``v = (I - L K / n)^-1 d / n``, is computed once, from its Jacobian. Of a
pair only ``J_t (H + lambda I)^-1 J_i' v_i`` is needed, and ``J_i' v_i`` is one backward pass.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import groupby
from operator import add

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.eigen import JOINT, Curvature, KroneckerBasis
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.forms import DenseGradients, FactoredGradients, LayerGradients
from relatif.pipeline.curvature.gradients import concatenate
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import Measurement
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.explaining import left_out
from relatif.pipeline.explaining.explainer import Explainer
from relatif.pipeline.explaining.left_out import DIFFERENCE, ROUNDED, STEP

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


def _silent(done: int) -> None:
    """Tell nobody how many pairs are done."""


def corrected_changes(
    explainer: Explainer,
    tests: Examples,
    trains: Examples,
    pairs: Sequence[tuple[int, int]],
    removal: Removal,
    told: Callable[[int], None] = _silent,
) -> Tensor:
    """Return what each pair's removal changes of its test input's measurement, [B] float64, as ``corrected_change``.

    A pair is a place in ``tests`` [M] and one in ``trains`` [U], whose targets are their own. NaN where leverage
    reaches 1, where the training loss has no second derivative, and where ``without_correction`` says why. ``told``
    hears how many pairs are done.
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
    done = len(pairs) - len(places)
    for test, of_test in groupby(places, key=lambda place: pairs[place][0]):
        mine = list(of_test)
        rows = [pairs[place][1] for place in mine]
        moved = _moved(explainer, tests.rows(test, test + 1), (_rows(trains, rows), steps[rows]), removal)
        changes[mine] = moved.double().cpu()
        done += len(mine)
        told(done)
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


def _jacobian(explainer: Explainer, examples: Examples) -> tuple[Tensor, list[dict[str, LayerGradients]]]:
    """Return the outputs of some examples, and the gradients of each of the O outputs: a backward pass for each."""
    subject, found = explainer.subject, []
    with explainer.lock:
        forward = forward_pass(subject.model, examples.inputs, subject.coverage, first_index=examples.first_index)
        outputs = forward.outputs.detach()
        width = outputs[0].numel()
        for number in range(width):
            chosen = _lined(torch.zeros_like(outputs))
            chosen[:, number] = 1.0
            at_uses = forward.backward(chosen.reshape(outputs.shape), keep_graph=number + 1 < width)
            found.append(forward.gradients(at_uses))
    return outputs, found


def _steps(explainer: Explainer, trains: Examples, count: int) -> Tensor:
    """Return the steps at the outputs of some training examples."""
    likelihood, curvature = explainer.subject.likelihood, explainer.curvature
    outputs, jacobian = _jacobian(explainer, trains)
    kernels = _joint_kernels(curvature, jacobian) if curvature.is_joint else _layer_kernels(curvature, jacobian)
    gradients, hessians, twice = _derivatives(
        likelihood, outputs, likelihood.explained(outputs, trains.targets, "true")
    )
    steps = steps_at_outputs(kernels.to(gradients), gradients, hessians, count)
    return torch.where(twice[:, None], steps, float("nan"))


def _layer_kernels(curvature: Curvature, jacobian: Sequence[Mapping[str, LayerGradients]]) -> Tensor:
    """Return K, [U, O, O], layer after layer."""
    kernels = []
    for name, block in curvature.blocks.items():
        rows = [each[name] for each in jacobian]
        shared = _shared_inputs(rows)
        if shared is None or not isinstance(block.basis, KroneckerBasis | None):
            kernels.append(_kernels([block.rotate(each) for each in rows], curvature.inverse(name)))
            continue
        outputs, inputs = shared
        if block.basis is not None:
            outputs, inputs = (
                values if side is None else values @ side
                for values, side in ((outputs, block.basis.output), (inputs, block.basis.input))
            )
        # Each output's gradient is an outer product with the same input.
        scaled = outputs * (inputs.square() @ curvature.inverse(name).T)[:, None]
        kernels.append((scaled @ outputs.mT).double())
    return reduce(add, kernels)


def _joint_kernels(curvature: Curvature, jacobian: Sequence[Mapping[str, LayerGradients]]) -> Tensor:
    """Return K, [U, O, O], of a curvature that couples all layers."""
    return _kernels([curvature.rotate(each)[JOINT] for each in jacobian], curvature.inverse(JOINT))


def _shared_inputs(rows: Sequence[LayerGradients]) -> tuple[Tensor, Tensor] | None:
    """Return the factors [U, O, o] and [U, i] of every output's gradients where all have the same input."""
    factored = [each for each in rows if isinstance(each, FactoredGradients)]
    if len(factored) < len(rows) or not all(torch.equal(each.inputs, factored[0].inputs) for each in factored):
        return None
    return torch.stack([each.outputs for each in factored], dim=1), factored[0].inputs


def _kernels(rotated: Sequence[LayerGradients], weights: Tensor) -> Tensor:
    """Return the weighted inner products of every output's gradients with every other's, [U, O, O]."""
    jacobian, total = concatenate(rotated), torch.zeros((), dtype=torch.float64, device=weights.device)
    for part in jacobian.parts(jacobian.count):
        rows = jacobian.entries(part).flatten(1).unflatten(0, (len(rotated), -1)).transpose(0, 1)
        total = total + ((rows * part.of(weights).to(rows.dtype).flatten()) @ rows.mT).double()
    return total


def _moved(explainer: Explainer, test: Examples, left: tuple[Examples, Tensor], removal: Removal) -> Tensor:
    """Return what leaving out some examples, with their steps, each changes of one test input's measurement."""
    outputs, jacobian = _jacobian(explainer, test)
    target = explainer.subject.likelihood.explained(outputs, test.targets, removal.explained)
    gradients = {name: concatenate([each[name] for each in jacobian]) for name in jacobian[0]}
    solved = {name: DenseGradients(values) for name, values in explainer.curvature.solve(gradients).items()}
    trains, steps = left
    moved = torch.cat([_products(solved, some) for some in _directions(explainer, trains, steps)], dim=1)
    after = outputs + moved.T.reshape(len(trains), *outputs.shape[1:])
    before = removal.measured.values(outputs, target)
    return removal.measured.values(after, target.expand(len(trains), *target.shape[1:])) - before


def _products(solved: Mapping[str, DenseGradients], directions: Mapping[str, LayerGradients]) -> Tensor:
    """Return the changes of a test input's outputs along some directions, [O, B]."""
    return reduce(add, (rows.inner_products(rows.ones(), directions[name]) for name, rows in solved.items()))


def _directions(explainer: Explainer, trains: Examples, steps: Tensor) -> Iterator[dict[str, LayerGradients]]:
    """Yield J'v of the training examples, piece by piece."""
    subject, start = explainer.subject, 0
    with explainer.lock:
        parts = list(pieces(subject, trains))
    for part in parts:
        with explainer.lock:
            forward = forward_pass(subject.model, part.inputs, subject.coverage, first_index=part.first_index)
            chosen = steps[start : start + len(part)].to(forward.outputs).reshape(forward.outputs.shape)
            found = forward.gradients(forward.backward(chosen))
        start += len(part)
        yield found


def _derivatives(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return d [U, O] and L [U, O, O] of examples' losses at their outputs, and which can be differentiated twice."""
    shape = outputs.shape
    gradient, point = _lined(likelihood.gradient(outputs, targets)), _lined(outputs)
    none = torch.zeros(len(point), dtype=torch.bool, device=point.device)
    try:
        hessian = _hessian(likelihood, outputs, targets)
    except RuntimeError:
        return gradient, point.new_zeros((*point.shape, point.shape[1])), none
    # As ``left_out`` does: a loss may leave out, without an error, what its second derivative depends on.
    direction = torch.arange(1.0, point.shape[1] + 1).to(point).cos()
    ahead, behind = (
        _lined(likelihood.gradient((point + step * direction).reshape(shape), targets)) for step in (STEP, -STEP)
    )
    along = hessian @ direction
    apart = ((ahead - behind) / (2 * STEP) - along).norm(dim=1)
    return gradient, hessian, apart <= DIFFERENCE * along.norm(dim=1) + ROUNDED * (1 + gradient.norm(dim=1))


def _hessian(likelihood: Likelihood, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the second derivatives of every example's loss, [U, O, O], for all examples at once."""
    point = _lined(outputs).detach().requires_grad_()
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


def _lined(values: Tensor) -> Tensor:
    """Return each example's numbers side by side, [U, O]; an output may be one number without an axis of its own."""
    return values.reshape(len(values), -1)


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
