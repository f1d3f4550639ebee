"""Counts of visits a day: a likelihood of one's own, Poisson, and a reader of one's own for the table."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pyarrow as pa
import torch
from torch import Tensor, nn

from relatif import Examples, Task, differentiated, train_by_minibatches

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MOST = 1000
"""Counts are told apart up to here."""


def counts() -> Task:
    """Return the task that ``counts.toml`` names."""
    return Task("counts", build_model=model, likelihood=Poisson(), read=read, train=train_by_minibatches)


def model() -> nn.Module:
    """Return the untrained model: [N, 8] to the logarithm of the expected count, [N, 1]."""
    return nn.Sequential(nn.Linear(1 + len(DAYS), 4), nn.Tanh(), nn.Linear(4, 1))


def read(batch: pa.RecordBatch) -> Examples:
    """Return the rows of a table as inputs, float32 [N, 8], and targets, float32 [N, 1]."""
    degrees = torch.tensor(batch["degrees"].to_pylist(), dtype=torch.float32)
    days = torch.tensor([DAYS.index(day) for day in batch["day"].to_pylist()])
    inputs = torch.cat([degrees[:, None] / 10, nn.functional.one_hot(days, len(DAYS)).float()], dim=1)
    return Examples(inputs, torch.tensor(batch["visits"].to_pylist(), dtype=torch.float32)[:, None])


@dataclass(frozen=True)
class Poisson:
    """Counts [N, 1] around ``exp(outputs)``, outputs [N, 1]."""

    @property
    def classes(self) -> int | None:
        """None: targets are no classes."""
        return None

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``-log p(count)``, [N]."""
        counts = targets.to(outputs)
        return (outputs.exp() - counts * outputs + torch.lgamma(counts + 1))[:, 0]

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses' gradient at the outputs, [N, 1]."""
        return differentiated(self.losses, outputs, targets)

    def expectation(self, outputs: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield terms of E[g g']: with g = rate - count it is the rate, as of the one count sqrt(rate) below it."""
        rates = outputs.detach().exp()
        yield rates - rates.sqrt(), rates.new_ones(len(rates))

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn counts [N, 1]: the first whose cumulative probability exceeds the number in [0, 1)."""
        cumulative = self._probabilities(outputs.detach()).cumsum(dim=1)
        found = torch.searchsorted(cumulative, uniform.to(cumulative)[:, None], right=True)
        return found.clamp(max=MOST).to(outputs)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the data's counts, or the model's own expectation."""
        return targets if choice == "true" else outputs.detach().exp()

    def output(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return what ``score.measurement = output`` explains: the logarithm of the expected count, [N]."""
        return outputs[:, 0]

    def default_measurement(self, choice: str | int) -> str:
        """Return ``output`` at the model's own expectation, where the loss has no gradient."""
        return "loss" if choice == "true" else "output"

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return what the tables say of an example beside its loss."""
        return {"target": targets, "prediction": outputs.detach().exp()}

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return what data is needed, unless it is there."""
        return None if 0 in class_counts else "data without classes"

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise for a target that can't be named."""
        if isinstance(choice, int):
            raise ValueError("score.explained_label is predicted or true for counts")

    def total_probability(self, outputs: Tensor) -> Tensor:
        """Return the sum of ``exp(-loss)`` over all counts, [N], which the audit compares with 1."""
        return self._probabilities(outputs.detach()).sum(dim=1)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        every = torch.arange(MOST + 1).to(outputs)
        return torch.stack([(-self.losses(outputs, count.expand_as(outputs))).exp() for count in every], dim=1)
