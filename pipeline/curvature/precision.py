"""The precision in which a trained model and its gradients are computed.

Outputs are float64 whatever it is, so that what a likelihood makes of them keeps the digits that the outputs have.
"""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from relatif.pipeline.calls import run_model
from relatif.pipeline.curvature.model import CoveredModel
from relatif.pipeline.devices import on_cpu
from relatif.pipeline.inputs import Inputs, device_of, moved
from relatif.schemas.errors import ConfigurationError

Precision = Literal["float64", "float32", "amp"]

SINGLE_ABOVE = 10_000_000
"""By default models with more covered parameters than this are computed in float32."""


class Single(nn.Module):
    """A model in float32 that is called as before: it casts its inputs, and its outputs back to float64.

    With ``mixed`` its forward pass is autocast to bfloat16 where torch does so; the backward pass follows.
    """

    def __init__(self, model: nn.Module, *, mixed: bool) -> None:
        """Take a model whose parameters are float32."""
        super().__init__()
        self.model, self.mixed = model, mixed

    def forward(self, *args: Tensor, **named: Tensor) -> Tensor:
        """Return the model's outputs [N, ...] in float64."""
        given: Inputs = named or (args[0] if len(args) == 1 else args)
        inputs = moved(given, device_of(given), torch.float32)
        with torch.autocast(device_of(inputs).type, dtype=torch.bfloat16, enabled=self.mixed):
            return run_model(self.model, inputs).double()


def in_precision(subject: CoveredModel, precision: Precision, device: torch.device | str) -> CoveredModel:
    """Return a model of float64 in another precision; its module's parameters are cast in place.

    Raises ConfigurationError for automatic mixed precision without a GPU.
    """
    if precision == "float64":
        return subject
    refuse_without_gpu(precision, found=not on_cpu(device))
    return replace(subject, model=Single(subject.model.float(), mixed=precision == "amp").eval())


def refuse_without_gpu(precision: Precision, *, found: bool) -> None:
    """Raise ConfigurationError for automatic mixed precision where no GPU was found."""
    if precision == "amp" and not found:
        raise ConfigurationError(
            "expected a GPU for curvature.precision = amp, found none; set it to float32, or give workers a GPU by "
            "cluster.gpus_per_worker"
        )


def default_precision(covered_count: int) -> Precision:
    """Return the precision of a model with so many covered parameters, where none is asked for."""
    return "float32" if covered_count > SINGLE_ABOVE else "float64"
