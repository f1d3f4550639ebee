"""A trained model with its curvature: what one pass over examples gives.

Axes: N examples.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from pipeline.curvature.capture import forward_pass, squared_norms
from pipeline.curvature.eigen import Curvature, self_influence, theta_norm
from pipeline.curvature.gradients import LayerGradients
from pipeline.curvature.subject import Subject
from pipeline.tasks.task import Task


@dataclass(frozen=True)
class Rows:
    """What one pass over examples gives: gradients by layer, the model's inputs, and table columns [N].

    The gradients are Q'g where the curvature in eigen form makes the numerators, and g where they are solved.
    """

    gradients: Mapping[str, LayerGradients]
    inputs: Tensor
    columns: Mapping[str, Tensor]

    @property
    def denominators(self) -> dict[str, Tensor]:
        """What relative influence divides by, [N] each (Def. 3.2 and Def. 3.4)."""
        return {"theta_relatif": self.columns["theta_norm"], "l_relatif": self.columns["self_influence"].sqrt()}


@dataclass(frozen=True)
class Explainer:
    """A trained model with its curvature; ``solves`` says that numerators are solved for, test input by test input."""

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
            forward = forward_pass(self.subject.model, inputs, self.subject.coverage)
            predicted = forward.outputs.detach().argmax(dim=1)
            chosen = {"true": labels, "predicted": predicted}
            targets = chosen[explained] if isinstance(explained, str) else torch.full_like(labels, explained)
            losses = self.task.loss(forward.outputs, targets)
            sent = forward.output_gradients(losses)
        gradients = forward.gradients(sent)
        squares = squared_norms(gradients, first_index=first, split=split)
        rotated = self.curvature.rotate(gradients)
        columns = {
            "index": torch.arange(first, first + len(labels), device=inputs.device),
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
