"""What one pass over examples gives.

Axes: N examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.gradients import LayerGradients, concatenate


@dataclass(frozen=True)
class Rows:
    """Gradients by layer, the model's inputs, and table columns [N].

    The gradients are Q'g where a curvature in eigen form makes the numerators, and g where they are solved for.
    """

    gradients: Mapping[str, LayerGradients]
    inputs: Tensor
    columns: Mapping[str, Tensor]

    @property
    def denominators(self) -> dict[str, Tensor]:
        """What relative influence divides by, [N] by method (Def. 3.2 and Def. 3.4)."""
        return {"theta_relatif": self.columns["theta_norm"], "l_relatif": self.columns["self_influence"].sqrt()}


def joined(parts: Sequence[Rows]) -> Rows:
    """Return consecutive examples as one value."""
    if len(parts) == 1:
        return parts[0]
    gradients = {name: concatenate([part.gradients[name] for part in parts]) for name in parts[0].gradients}
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns}
    return Rows(gradients, torch.cat([part.inputs for part in parts]), columns)
