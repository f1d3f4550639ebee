"""Evaluations of explanations: agreement of classes, and detection of wrong labels by a ranking.

Axes: N training examples, M test inputs.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.schemas.errors import DataError


@dataclass(frozen=True)
class Share:
    """``count`` of ``total`` independent trials."""

    count: int
    total: int

    @property
    def share(self) -> float:
        """Return count / total. Raises DataError where there is no trial."""
        if not self.total:
            raise DataError("expected at least one test input to take a share of, found none; score more test inputs")
        return self.count / self.total

    @property
    def standard_error(self) -> float:
        """Return the binomial ``sqrt(p (1 - p) / total)`` with p the share; raises as ``share``."""
        return math.sqrt(self.share * (1 - self.share) / self.total)


def agreement(explaining: Tensor, wanted: Tensor) -> Share:
    """Return how many explaining classes [M] are the wanted ones [M]."""
    return Share(int((explaining == wanted).sum()), len(wanted))


@dataclass(frozen=True, eq=False)
class Detection:
    """Places [F] int64 from 1, ascending, of the F wrong labels among ``total`` examples in the order of inspection."""

    places: Tensor
    total: int

    def found(self, inspected: float) -> float:
        """Return the share of the wrong labels among the first ``round(inspected * total)`` examples, 0 to 1."""
        return int((self.places <= round(inspected * self.total)).sum()) / len(self.places)

    @property
    def area(self) -> float:
        """Return the area below found share over inspected share: mean of ``(N - place + 1/2) / N``.

        The curve is linear between examples. A random order has 1/2 on average, the best one ``1 - F / (2 N)``.
        """
        # Summed as whole numbers, so that the last bit does not depend on the order of the places.
        twice = len(self.places) * (2 * self.total + 1) - 2 * int(self.places.sum())
        return twice / (2 * self.total * len(self.places))

    def curve(self, points: int) -> tuple[Tensor, Tensor]:
        """Return inspected and found shares [points], float64, from 0 to 1, evenly spaced."""
        inspected = torch.linspace(0, 1, points, dtype=torch.float64)
        found = torch.searchsorted(self.places, (inspected * self.total).round().long(), right=True)
        return inspected, found.double() / len(self.places)


def detection(values: Tensor, wrong: Tensor) -> Detection:
    """Return where inspecting examples by ``values`` [N], highest first, meets the wrong labels [N] bool.

    Ties go to the smaller row. Raises DataError where a value is not a number or no label is wrong.
    """
    if bool(values.isnan().any()):
        raise DataError(
            f"expected numbers to rank training examples by, found none for row {int(values.isnan().nonzero()[0])}; "
            f"look at the model's outputs and run the score stage again"
        )
    if not bool(wrong.any()):
        raise DataError(
            f"expected a wrong label among {len(wrong)} training examples, found none; "
            f"flip a larger share of the labels, or use more training examples"
        )
    order = values.argsort(descending=True, stable=True)
    return Detection(wrong[order].nonzero().flatten() + 1, len(values))
