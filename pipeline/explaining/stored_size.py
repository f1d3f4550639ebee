"""How much room the gradients take that a run keeps, from the forms of one example's."""

import math

import torch

from relatif.pipeline.console import format_bytes
from relatif.pipeline.curvature.capture import forward_pass
from relatif.pipeline.curvature.forms import FactoredGradients
from relatif.pipeline.explaining.covered import covered_model
from relatif.pipeline.explaining.gradient_store import NORMS, require_storable
from relatif.pipeline.runs.run import Run

MEASURED = 4
"""Errors and squared norms that are stored of each example, float64."""


def stored_bytes(run: Run) -> int:
    """Return the bytes of the gradients that a run keeps with ``score.gradient_store``.

    An untrained model is run on one example. Raises ConfigurationError for layers whose gradients can't be kept.
    """
    shapes = _shapes(run)
    if run.config.curvature.eigen_method == "exact" and not run.config.curvature.is_iterative:
        # One block of all parameters.
        numbers = sum(outputs * inputs for outputs, inputs, _ in shapes)
    else:
        numbers = sum(outputs + inputs if factored else outputs * inputs for outputs, inputs, factored in shapes)
    described = run.dataset.description
    target = 1 if described.target is None else math.prod(described.target.shape)
    rounded = getattr(torch, run.config.score.gradient_store_dtype).itemsize * (numbers + run.dataset.input_numbers)
    return run.scored_rows * (rounded + 8 * (len(NORMS) + MEASURED + target) + described.row_bytes)


def stored_lines(run: Run) -> list[tuple[str, str]]:
    """Return the line of a plan that tells of kept gradients; none where none are kept."""
    config = run.config.score
    if not config.gradient_store:
        return []
    return [("gradients kept", f"{config.gradient_store_dtype}, about {format_bytes(stored_bytes(run))} more")]


def _shapes(run: Run) -> list[tuple[int, int, bool]]:
    """Return outputs and inputs of every block, and whether its gradient is kept as two factors."""
    task = run.task
    with torch.random.fork_rng(devices=[]):
        model = task.build_model().double().eval()
    subject = covered_model(model, run.source, task, run.config.curvature)
    few = run.source.examples(task, run.dataset.shards("train", rows=1)[0]).rows(0, 1)
    forward = forward_pass(subject.model, few.inputs, subject.coverage)
    gradients = forward.gradients(forward.backward(torch.zeros_like(forward.outputs)))
    require_storable(gradients)
    return [(*each.shape, isinstance(each, FactoredGradients)) for each in gradients.values()]
