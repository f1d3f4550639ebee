"""The audit of a task's model on the first rows of both parts of its data, untrained and trained."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from relatif.pipeline.auditing.audit import Sample, audit
from relatif.pipeline.auditing.lending import lent, perturb
from relatif.pipeline.auditing.outputs import SAME, apart_alone, built_at, check_rebuilt, outputs_of
from relatif.pipeline.curvature.measurement import LOSS
from relatif.pipeline.datasets.shards import Shard
from relatif.pipeline.devices import CPU
from relatif.pipeline.explaining.covered import covered_model
from relatif.pipeline.explaining.measured import load_measurement, measurement_name
from relatif.pipeline.inputs import copied
from relatif.pipeline.runs.source import Source, model_examples
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import RunConfig
from relatif.schemas.errors import ModelError

ROWS = 4
"""Rows that are looked at, of each part of the data."""

SEED = 0
"""Decides how an untrained model's parameters are perturbed."""


def audit_untrained(
    source: Source, task: Task, config: RunConfig, train: Sequence[Shard], test: Sequence[Shard]
) -> dict[str, Any]:
    """Try the task's untrained model, its parameters perturbed, on the first rows of both parts; return what was found.

    Raises ModelError or NumericalError at the first thing that would make scores wrong, and as ``coverage`` does. No
    Ray is needed, and no model of the task's is left changed.
    """
    model = built_at(task.build_model, SEED)
    samples = _samples(source, task, (train, test), CPU)
    with lent(model):
        # Before anything is computed: a parameter that is not covered tells more than what it leads to.
        covered_model(model, source, task, config.curvature)
    with lent(model):
        model.double().eval()
        perturbed = _perturb(model, samples)
        found = audit(covered_model(model, source, task, config.curvature), task.model_inputs, samples)
        found |= check_rebuilt(model, task.build_model, samples[0].examples.inputs)
        found |= _check_measurement(model, task, config, samples[1])
    return {**_findings(samples, found), "perturbed": perturbed}


def audit_trained(
    source: Source,
    task: Task,
    config: RunConfig,
    train: Sequence[Shard],
    test: Sequence[Shard],
    model: nn.Module,
) -> dict[str, Any]:
    """Try a trained model, in float64 and evaluation mode, on its device; return what was found.

    Raises as ``audit_untrained``.
    """
    device = next(iter(model.parameters())).device
    samples = _samples(source, task, (train, test), device)
    with lent(model):
        return _findings(
            samples, audit(covered_model(model, source, task, config.curvature), task.model_inputs, samples)
        )


def _check_measurement(model: nn.Module, task: Task, config: RunConfig, tests: Sample) -> dict[str, float]:
    """Measure the first test inputs as score will: ModelError where that is no finite number of each input alone."""
    name, likelihood = measurement_name(config.score, task.likelihood), task.likelihood
    if name == LOSS:
        return {}
    measured, outputs = load_measurement(name, likelihood), outputs_of(model, tests.examples.inputs)
    targets = likelihood.explained(outputs, tests.examples.targets, config.score.explained_label)
    values, gradient = measured.values(outputs, targets), measured.gradient(outputs, targets)
    if not bool(values.isfinite().all() and gradient.isfinite().all()):
        raise ModelError(
            f"expected finite values and gradients of score.measurement = {name}, found others for the first rows of "
            f"{tests.split}; correct it, or measure the loss"
        )
    apart = apart_alone(measured.values, outputs, targets, values)
    if not apart <= SAME:
        raise ModelError(
            f"expected score.measurement = {name} of an example to depend on that example alone, found a difference of "
            f"{apart:.2g} without the rest of its batch; return a number for each example"
        )
    return {"measurement alone as in a batch": apart}


def first_rows(shards: Sequence[Shard], count: int = ROWS) -> Shard:
    """Return the first rows of a part as a shard of their own, without the row groups that they don't need."""
    first = shards[0]
    pieces, rows = [], 0
    for piece in first.pieces:
        if rows < count:
            pieces.append(replace(piece, rows=min(piece.rows, count - rows)))
            rows += pieces[-1].rows
    return replace(first, stop=first.start + rows, pieces=tuple(pieces))


def _perturb(model: nn.Module, samples: Sequence[Sample]) -> bool:
    """Perturb a model's parameters, unless it computes nothing finite then: some numbers have to stay positive."""
    kept = [parameter.detach().clone() for parameter in model.parameters()]
    perturb(model, SEED)
    if all(bool(outputs_of(model, each.examples.inputs).isfinite().all()) for each in samples):
        return True
    with torch.no_grad():
        for parameter, value in zip(model.parameters(), kept, strict=True):
            parameter.copy_(value)
    return False


def _samples(
    source: Source, task: Task, parts: tuple[Sequence[Shard], Sequence[Shard]], device: torch.device | str
) -> tuple[Sample, ...]:
    samples = []
    for shards, explained in zip(parts, ("true", "predicted"), strict=True):
        shard = first_rows(shards)
        stored = source.stored(shard)
        # Read from a copy: whether the task changes what is stored is one of the questions.
        examples = model_examples(task, copied(stored.inputs), stored.labels, shard.start, device)
        samples.append(Sample(shard.split, stored.inputs, examples, explained))
    return tuple(samples)


def _findings(samples: Sequence[Sample], found: dict[str, float]) -> dict[str, Any]:
    rows = {each.split: [each.examples.first_index, each.examples.first_index + len(each.examples)] for each in samples}
    return {"rows": rows, "largest_difference": {name: float(f"{value:.3g}") for name, value in found.items()}}
