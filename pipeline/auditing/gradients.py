"""Captured gradients against autograd's, parameter by parameter.

Axes: N examples, T positions, O outputs, I inputs of a block (bias folded).
"""

from collections.abc import Iterator, Mapping
from functools import reduce

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.capture import ForwardPass, forward_pass
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.places import Factors
from relatif.pipeline.curvature.sides import dense, rows_of
from relatif.pipeline.inputs import Inputs, copied
from relatif.schemas.errors import ModelError, NumericalError

AGREEMENT = 1e-7
"""Of a parameter's own gradients: float64 sums in another order differ by about 1e-13, and a model that rounds to
float32 inside by about 1e-7 of its outputs, but alike on both ways."""

NOISE = 1e-11
"""Of the gradients of all parameters together: a gradient that cancels to nothing, such as that of a bias before a
normalization, is rounding alone."""


def check_gradients(subject: CoveredModel, examples: Examples, split: str) -> dict[str, float]:
    """Return the largest relative difference between captured gradients and autograd's, of one example and of the sum.

    Raises ModelError that names the parameter and the likely reason where one differs by more than rounding, and
    NumericalError where autograd's is not finite.
    """
    forward = forward_pass(subject.model, examples.inputs, subject.coverage, first_index=examples.first_index)
    at_outputs = subject.likelihood.gradient(forward.outputs.detach(), examples.targets)
    rows = _captured_rows(forward, at_outputs)
    worst, totals, sizes = 0.0, dict[str, Tensor](), dict[str, float]()
    for row in range(len(examples)):
        captured = next(rows)
        direct = _direct(subject, examples.rows(row, row + 1).inputs, at_outputs[row : row + 1])
        own = {name: float(values.norm()) for name, values in direct.items()}
        what = f"{split} example {examples.first_index + row}"
        worst = max(worst, _compare(subject, captured, direct, own, what))
        # Of sums, in which gradients may cancel, the parts' sizes count.
        sizes = {name: sizes.get(name, 0.0) + size for name, size in own.items()}
        totals = {name: totals[name] + each if name in totals else each for name, each in captured.items()}
    whole = _direct(subject, examples.inputs, at_outputs)
    summed = _compare(subject, totals, whole, sizes, f"the sum over {len(examples)} {split} examples")
    return {"captured gradient": worst, "sum of captured gradients": summed}


def _captured_rows(forward: ForwardPass, at_outputs: Tensor) -> Iterator[dict[str, Tensor]]:
    """Yield each example's captured gradients by parameter: one example's at a time are held."""
    factors = forward.factors(forward.backward(at_outputs))
    for row in range(len(at_outputs)):
        blocks = {
            name: reduce(torch.add, (_outer_products(use, row) for use in uses)) for name, uses in factors.items()
        }
        yield forward.coverage.parameter_values(blocks)


def _outer_products(use: Factors, row: int) -> Tensor:
    """Return an example's sum over positions of one use, [O, I]."""
    outputs, inputs = (dense(rows_of(side, slice(row, row + 1)))[0] for side in (use.outputs, use.inputs))
    return outputs.T @ inputs


def _direct(subject: CoveredModel, inputs: Inputs, at_outputs: Tensor) -> dict[str, Tensor]:
    """Return autograd's gradient of the covered parameters, given that at the outputs, without any recording."""
    parameters = dict(subject.model.named_parameters(remove_duplicate=False))
    names = [each.name for each in subject.coverage.parameters if each.covered]
    with torch.enable_grad():
        outputs = run_model(subject.model, copied(inputs))
        chosen = [parameters[name] for name in names]
        gradients = torch.autograd.grad(outputs, chosen, at_outputs, materialize_grads=True, allow_unused=True)
    return dict(zip(names, gradients, strict=True))


def _compare(
    subject: CoveredModel,
    captured: Mapping[str, Tensor],
    direct: Mapping[str, Tensor],
    sizes: Mapping[str, float],
    what: str,
) -> float:
    """Return the largest difference relative to its parameter's gradient, or raise ModelError."""
    total, worst = sum(size**2 for size in sizes.values()) ** 0.5, 0.0
    for name, expected in direct.items():
        if not bool(expected.isfinite().all()):
            raise NumericalError(
                f"expected finite gradients, found autograd's of parameter {name} for {what} not to be; look at that "
                f"example, and let no branch that torch.where leaves out be NaN or infinite: its gradient is, too"
            )
        apart = float((captured[name] - expected).norm())
        if not apart <= AGREEMENT * sizes[name] + NOISE * total:
            share = apart / sizes[name] if sizes[name] > 0 else float("inf")
            raise ModelError(
                f"expected the captured gradient of parameter {name} to be autograd's, found {what} to differ by "
                f"{share:.2g} of it: {_reason(subject.model, name)}; use torch's own functions, freeze it with "
                f"requires_grad_(False), or leave it out by curvature.exclude = ['{name}']"
            )
        worst = max(worst, apart / (sizes[name] + NOISE * total) if apart > 0 else 0.0)
    return worst


def _reason(model: nn.Module, name: str) -> str:
    """Return in words what most likely makes the gradient of a parameter another than its recorded uses say."""
    if dict(model.named_parameters(remove_duplicate=False))[name]._backward_hooks:
        return "a hook on the parameter changes its gradient"
    return "the examples are not the first axis of what it meets, or its use is recorded wrongly"
