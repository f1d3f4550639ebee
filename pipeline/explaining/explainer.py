"""A trained model with its curvature, which turns examples into gradients, norms and table columns.

Axes: N examples.
"""

import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import forward_pass, raise_not_finite
from relatif.pipeline.curvature.eigen import Curvature, norms_of
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.curvature.likelihood import Likelihood
from relatif.pipeline.curvature.measurement import LOSS, Measurement
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.datasets.label_column import UNLABELLED
from relatif.pipeline.devices import Worker
from relatif.pipeline.explaining.covered import load_covered_model
from relatif.pipeline.explaining.examples import ExplainedExamples, joined
from relatif.pipeline.explaining.measured import load_measurement
from relatif.pipeline.explaining.stored_curvature import load_eigen_form
from relatif.pipeline.runs.source import Source
from relatif.pipeline.tasks.task import Task
from relatif.schemas.config import CurvatureConfig
from relatif.schemas.errors import DataError


@dataclass(frozen=True)
class Explainer:
    """A trained model with its curvature in eigen form; ``numerators_are_solved`` is true for cg and lissa."""

    task: Task
    subject: CoveredModel
    curvature: Curvature
    worker: Worker
    numerators_are_solved: bool = False
    # Recording hooks sit on the model, so one thread at a time may run it.
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def explain(
        self, examples: Examples, *, explained: str | int, split: str, measurement: str = LOSS
    ) -> ExplainedExamples:
        """Differentiate a measurement of the ``explained`` targets; return each example's gradients and table columns.

        Of training examples it is always the loss of their own targets.
        """
        _require_targets(self.subject.likelihood, examples, explained, split)
        measured = load_measurement(measurement, self.subject.likelihood)
        with self.lock:
            parts = list(pieces(self.subject, examples))
        return joined([self._explain(part, explained, split, measured) for part in parts])

    def _explain(
        self, examples: Examples, explained: str | int, split: str, measured: Measurement
    ) -> ExplainedExamples:
        first, likelihood = examples.first_index, self.subject.likelihood
        with self.lock:
            forward = forward_pass(self.subject.model, examples.inputs, self.subject.coverage, first_index=first)
            outputs = forward.outputs.detach()
            targets = likelihood.explained(outputs, examples.targets, explained)
            output_gradients = forward.backward(measured.gradient(outputs, targets))
        # Outside the lock: what follows reads this piece's own tensors.
        losses = likelihood.losses(outputs, targets)
        gradients = forward.gradients(output_gradients)
        rotated = self.curvature.rotate(gradients)
        norms = norms_of(self.curvature, rotated)
        if not bool(norms.gradient.sum().isfinite()):
            raise_not_finite(gradients, first_index=first, split=split)
        columns = {
            "index": torch.arange(first, first + len(examples)),
            "loss": losses,
            **likelihood.columns(outputs, examples.targets, targets, losses),
            "gradient_norm": norms.gradient,
            "theta_norm": norms.theta,
            "self_influence": norms.self_influence,
        }
        return ExplainedExamples(gradients if self.numerators_are_solved else rotated, examples.inputs, columns)


def _require_targets(likelihood: Likelihood, examples: Examples, explained: str | int, split: str) -> None:
    """Raise DataError, naming the row, where the data's target is to be explained and there is none.

    A training example all of whose targets are left out has no loss, and so no influence.
    """
    if getattr(likelihood, "missing", None) is not None and split == "train":
        return
    missing = without_target(likelihood, examples.targets)
    if explained == "true" and bool(missing.any()):
        raise DataError(
            f"expected a label to explain, found none in row {examples.first_index + int(missing.nonzero()[0, 0])} of "
            f"{split}; set score.explained_label to 'predicted' or a class"
        )


def without_target(likelihood: Likelihood, targets: Tensor) -> Tensor:
    """Return which examples' targets [N, ...] are not known, [N] bool."""
    rule = getattr(likelihood, "missing", None)
    found: Tensor = targets.reshape(len(targets), -1).eq(UNLABELLED).any(dim=1) if rule is None else rule(targets)
    return found


def load_explainer(source: Source, config: CurvatureConfig, worker: Worker) -> Explainer:
    """Load a run's trained model and its curvature onto a worker's device."""
    task = source.load_task()
    subject = load_covered_model(source, task, config, worker.device)
    curvature = load_eigen_form(source, config, worker.device)
    return Explainer(task, subject, curvature, worker, numerators_are_solved=config.is_iterative)
