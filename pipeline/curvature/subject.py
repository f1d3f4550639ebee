"""What is differentiated, and the examples at which: the two things that every sum over training examples needs."""

from dataclasses import dataclass

from torch import Tensor, nn

from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.fisher import Fisher, PerExampleLoss


@dataclass(frozen=True)
class Subject:
    """A trained model, its covered layers, the loss of one example, and the labels that the Fisher sums over."""

    model: nn.Module
    coverage: Coverage
    loss: PerExampleLoss
    fisher: Fisher


@dataclass(frozen=True)
class Examples:
    """Consecutive rows of a data set: model inputs [N, ...], labels int64 [N], the row of the first."""

    inputs: Tensor
    labels: Tensor
    first_index: int
