"""Numbers with normal noise: the likelihood of a regression.

Axes: N examples, D outputs. A target's numbers that are NaN are left out: they have no loss and no gradient.
"""

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.target_rows import (
    left_out_alike,
    no_classes_expected,
    output_rows,
    present,
    require,
    summed_over_lines,
    target_rows,
    unit_terms,
    without_any,
)
from relatif.pipeline.draws import further
from relatif.schemas.errors import ConfigurationError

HALF_UNIT = 2.0**-54
"""Half the distance of drawn numbers: moved on by it, none of them is 0, whose normal quantile is not finite."""

REACH, STEPS = 9.0, 181
"""Standard deviations to either side, and points, by which a density is integrated: the rest is below 1e-18."""

OFF = 10.0
"""Times by which the mean squared error and the variance may differ without a warning."""


@dataclass(frozen=True)
class Gaussian:
    """Targets [N, D], or [N] where D is 1, are normal around the model's ``outputs`` numbers, with one ``variance``.

    The loss is ``|y - f|^2 / (2 variance) + D/2 log(2 pi variance)`` in nats. Raises ConfigurationError for less than
    one output and for a variance that is not positive.
    """

    outputs: int = 1
    variance: float = 1.0

    def __post_init__(self) -> None:
        if self.outputs < 1 or not 0 < self.variance < math.inf:
            raise ConfigurationError(
                f"expected a Gaussian likelihood of at least 1 output with a variance above 0, found outputs = "
                f"{self.outputs} and variance = {self.variance}; correct them"
            )

    @property
    def classes(self) -> int | None:
        """None: targets are no class labels."""
        return None

    @property
    def text(self) -> str:
        """Return in words what targets are."""
        default = ", the default" if self.variance == 1 else ""
        return f"{self.outputs} number(s) with normal noise of variance {self.variance:g}{default}"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, [N] in nats; ModelError or DataError for other shapes."""
        means = output_rows(outputs, self.outputs)
        rows = target_rows(targets, means)
        squares = torch.where(rows.isnan(), 0.0, means - rows).square() / self.variance
        constant = math.log(2 * math.pi * self.variance)
        return (squares.sum(dim=1) + constant * present(rows).sum(dim=1)) / 2

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``(f - y) / variance`` in the outputs' shape."""
        means = output_rows(outputs.detach(), self.outputs)
        rows = target_rows(targets, means)
        return (torch.where(rows.isnan(), 0.0, means - rows) / self.variance).reshape(outputs.shape)

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield, for each output, the target one standard deviation below there, elsewhere as predicted.

        The sum of their ``g g'`` is ``I / variance``.
        """
        means = output_rows(outputs.detach(), self.outputs)
        for step in unit_terms(torch.full_like(means, math.sqrt(self.variance))):
            yield means - step, means.new_ones(len(means))

    def curvature_terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same as gradients at the outputs, 0 where a target's number is left out, with weights 1."""
        means = output_rows(outputs.detach(), self.outputs)
        scales = present(target_rows(targets, means)) / math.sqrt(self.variance)
        for gradient in unit_terms(scales):
            yield gradient.reshape(outputs.shape), means.new_ones(len(means))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets [N, D]: quantiles of the normal at numbers made of ``uniform`` [N]."""
        means = output_rows(outputs.detach(), self.outputs)
        quantiles = torch.special.ndtri(further(uniform, self.outputs) + HALF_UNIT).to(means)
        return means + math.sqrt(self.variance) * quantiles

    def drawn(self, outputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets [N, D] without the numbers that the example's own target leaves out."""
        return left_out_alike(self.sample(outputs, uniform), targets)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained targets [N, D]: the data's, the model's, or the model's number ``choice`` alone.

        Raises DataError for a target of the data's that is infinite.
        """
        means = output_rows(outputs.detach(), self.outputs)
        if choice == "true":
            rows = target_rows(targets, means)
            require(rows.isfinite(), rows, "finite numbers")
            return rows
        if isinstance(choice, str):
            return means
        left_out = torch.arange(self.outputs, device=means.device) != choice
        return means.masked_fill(left_out, torch.nan)

    def missing(self, targets: Tensor) -> Tensor:
        """Return which examples have no target, [N] bool."""
        return without_any(targets)

    def output(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the model's numbers, [N], without those that the explained targets leave out."""
        means = output_rows(outputs, self.outputs)
        return torch.where(target_rows(targets, means).isnan(), 0.0, means).sum(dim=1)

    def default_measurement(self, choice: str | int) -> str:
        """Return ``output``, unless the data's target is explained: at its own prediction the loss has no gradient."""
        return "loss" if choice == "true" else "output"

    def check_measurement(self, name: str, choice: str | int) -> None:
        """Raise ConfigurationError for the loss of the model's own prediction, whose gradient is 0."""
        if name == "loss" and choice != "true":
            raise ConfigurationError(
                f"expected score.explained_label = 'true' with score.measurement = loss for a regression, found "
                f"{choice!r}: at its own prediction the loss has no gradient; explain the true targets, or set "
                f"score.measurement = output"
            )

    def figures(self, outputs: Tensor, targets: Tensor) -> tuple[str, ...]:
        """Return in words the mean squared error beside the variance, and a warning where they are OFF times apart."""
        means = output_rows(outputs.detach(), self.outputs)
        rows = target_rows(targets, means)
        squares = (means - rows).square()[~rows.isnan()]
        if not len(squares):
            return ()
        error = float(squares.mean())
        lines = (f"mean squared error {error:.4g}, where the likelihood's variance is {self.variance:g}",)
        times = error / self.variance
        if not error or 1 / OFF <= times <= OFF:
            return lines
        apart = f"{times:.3g} times more" if times > 1 else f"{1 / times:.3g} times less"
        return (
            *lines,
            f"warning: the mean squared error is {error:.4g}, {apart} than the variance {self.variance:g}, by which "
            f"the curvature is divided while the damping is not; set model.variance (in a Task: Gaussian's) to about "
            f"{error:.2g}, or to the noise that you know",
        )

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return targets and predictions, [N, D]."""
        means = output_rows(outputs.detach(), self.outputs)
        return {"target": target_rows(targets, means), "prediction": means}

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return that data without classes is needed, unless it is there."""
        return no_classes_expected(class_counts, "numbers to predict as data.target_columns")

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError for an output that the model lacks."""
        if isinstance(choice, int) and choice >= self.outputs:
            raise ConfigurationError(
                f"expected score.explained_label 'predicted', 'true' or an output from 0 to {self.outputs - 1}, found "
                f"{choice}; name one of the model's {self.outputs} output(s)"
            )

    def total_probability(self, outputs: Tensor) -> Tensor:
        """Return the integral of ``exp(-loss)`` over all targets, [N], by the trapezoidal rule along each output."""
        means = output_rows(outputs.detach(), self.outputs)
        reach = REACH * math.sqrt(self.variance)
        steps = torch.linspace(-reach, reach, STEPS, dtype=means.dtype, device=means.device)
        return summed_over_lines(self.losses, outputs.detach(), means, steps, 2 * reach / (STEPS - 1))
