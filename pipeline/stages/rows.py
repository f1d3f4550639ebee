"""What one pass over examples gives.

Axes: N examples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.curvature.gradients import LayerGradients, concatenate


@dataclass(frozen=True)
class Rows:
    """Rotated gradients by layer, the model's inputs, and table columns [N]."""

    rotated: Mapping[str, LayerGradients]
    inputs: Tensor
    columns: Mapping[str, Tensor]


def joined(parts: Sequence[Rows]) -> Rows:
    """Return consecutive examples as one value."""
    if len(parts) == 1:
        return parts[0]
    rotated = {name: concatenate([part.rotated[name] for part in parts]) for name in parts[0].rotated}
    columns = {name: torch.cat([part.columns[name] for part in parts]) for name in parts[0].columns}
    return Rows(rotated, torch.cat([part.inputs for part in parts]), columns)
