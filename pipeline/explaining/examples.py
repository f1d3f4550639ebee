"""Gradients, inputs and table columns of a batch of examples.

Axes: N examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.forms import LayerGradients
from relatif.pipeline.curvature.gradients import concatenate
from relatif.pipeline.inputs import Inputs


@dataclass(frozen=True)
class ExplainedExamples:
    """Gradients by layer, the model's inputs, and table columns [N].

    The gradients are Q'g where a curvature in eigen form makes the numerators, and g where they are solved for.
    """

    gradients: Mapping[str, LayerGradients]
    inputs: Inputs
    columns: Mapping[str, Tensor]

    def __len__(self) -> int:
        """Return N."""
        return batches.count(self.inputs)

    def rows(self, rows: slice) -> "ExplainedExamples":
        """Return some consecutive examples."""
        gradients = {name: each.rows(rows) for name, each in self.gradients.items()}
        columns = {name: values[rows] for name, values in self.columns.items()}
        return ExplainedExamples(gradients, batches.rows(self.inputs, rows), columns)


def joined(parts: Sequence[ExplainedExamples]) -> ExplainedExamples:
    """Return consecutive examples as one value."""
    if len(parts) == 1:
        return parts[0]
    gradients = {name: concatenate([part.gradients[name] for part in parts]) for name in parts[0].gradients}
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns}
    return ExplainedExamples(gradients, batches.joined([part.inputs for part in parts]), columns)
