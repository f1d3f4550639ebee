"""A trained model with its curvature, and what it says of examples.

Axes: N examples.
"""

import threading
from dataclasses import dataclass, field

import torch
from torch import Tensor

from relatif.pipeline.curvature.capture import forward_pass, squared_norms
from relatif.pipeline.curvature.eigen import Curvature, self_influence, theta_norm
from relatif.pipeline.curvature.pieces import pieces
from relatif.pipeline.curvature.subject import Examples, Subject
from relatif.pipeline.explaining.examples import Rows, joined
from relatif.pipeline.tasks.task import Task


@dataclass(frozen=True)
class Explainer:
    """A trained model with its curvature in eigen form; ``solves`` says that the numerators are solved for instead."""

    task: Task
    subject: Subject
    curvature: Curvature
    device: str
    solves: bool = False
    # Recording hooks sit on the model, so one thread at a time may run it.
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    def rows(self, inputs: Tensor, labels: Tensor, *, explained: str | int, first: int, split: str) -> Rows:
        """Differentiate the loss of ``explained`` labels and return what the tables say of each example."""
        with self.lock:
            parts = list(pieces(self.subject, Examples(inputs, labels, first)))
        return joined([self._rows(part, explained, split) for part in parts])

    def _rows(self, examples: Examples, explained: str | int, split: str) -> Rows:
        inputs, labels, first = examples.inputs, examples.labels, examples.first_index
        with self.lock:
            forward = forward_pass(self.subject.model, inputs, self.subject.coverage, first_index=first)
            predicted = forward.outputs.detach().argmax(dim=1)
            chosen = {"true": labels, "predicted": predicted}
            targets = chosen[explained] if isinstance(explained, str) else torch.full_like(labels, explained)
            losses = self.task.loss(forward.outputs, targets)
            sent = forward.output_gradients(losses)
        gradients = forward.gradients(sent)
        squares = squared_norms(gradients, first_index=first, split=split)
        rotated = self.curvature.rotate(gradients)
        columns = {
            "index": torch.arange(first, first + len(labels)),
            "label": labels,
            "predicted_label": predicted,
            "explained_label": targets,
            "probability": (-losses.detach()).exp(),
            "loss": losses.detach(),
            "gradient_norm": squares.sqrt(),
            "theta_norm": theta_norm(self.curvature, rotated),
            "self_influence": self_influence(self.curvature, rotated),
        }
        return Rows(gradients if self.solves else rotated, inputs, columns)
