"""The model that is differentiated, with its covered layers, likelihood and Fisher."""

from dataclasses import dataclass

from torch import nn

from relatif.pipeline.curvature.coverage import Coverage
from relatif.pipeline.curvature.fisher import Fisher
from relatif.pipeline.curvature.likelihood import Likelihood


@dataclass(frozen=True)
class CoveredModel:
    """A trained model, its covered layers, the likelihood of its outputs, and the targets that the Fisher sums over."""

    model: nn.Module
    coverage: Coverage
    likelihood: Likelihood
    fisher: Fisher
