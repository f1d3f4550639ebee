"""What a model's outputs mean for an example's target: losses, gradients, the Fisher's terms, and table columns.

Axes: N examples, C classes. A likelihood is the only thing that knows what a target is; everything else asks it.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from relatif.schemas.errors import ConfigurationError, ModelError

PerExampleLoss = Callable[[Tensor, Tensor], Tensor]
"""From outputs [N, ...] and targets [N, ...] to losses [N] in nats."""

Term = tuple[Tensor, Tensor]
"""Targets [N, ...] and weights [N] of one term of an expectation over targets."""


class Likelihood(Protocol):
    """The probability p(target | outputs) that a model learns. Implementations are values: frozen and without state."""

    @property
    def classes(self) -> int | None:
        """Number of classes C where targets are class labels, else None."""
        ...

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``-log p(target | outputs)`` of each example, [N] in nats, up to a constant."""
        ...

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient of each example's loss at its outputs, in their shape."""
        ...

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield terms whose weighted sum of ``g g'`` is the exact expectation over the model's targets (Eq. 7).

        Targets may be numbers that no example can have, such as 2.5 for a count, if ``losses`` takes them.
        """
        ...

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return one target per example, drawn from p(. | outputs) by numbers ``uniform`` [N] in [0, 1)."""
        ...

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the targets that are explained: the data's (``true``), the model's (``predicted``), or a named one."""
        ...

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return the table columns that describe targets, [N] each; a column that does not apply is left out.

        Leave-one-out and linear datamodeling need ``explained_label``, a whole number.
        """
        ...

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return in words what data is needed, or None where one of the data's possible numbers of classes fits."""
        ...

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError where ``choice`` names no target, for data of ``class_count`` classes."""
        ...


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return ``-log softmax(outputs)[label]``, [N] in nats, for outputs [N, C] and labels int64 [N]."""
    return functional.cross_entropy(outputs, labels, reduction="none")


@dataclass(frozen=True)
class Categorical:
    """One of ``classes`` labels, counted from 0; ``loss`` must be a negative log-likelihood in nats."""

    classes: int
    loss: PerExampleLoss = cross_entropy

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each label, [N]; raises ModelError where ``loss`` gives no loss per example."""
        return per_example(self.loss(outputs, targets), len(targets))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient at the outputs, [N, ...], by automatic differentiation of ``loss``."""
        return differentiated(self.losses, outputs, targets)

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield every label with its probability ``exp(-loss)``."""
        for label in range(self.classes):
            targets = _labels(outputs, label)
            yield targets, (-self.losses(outputs, targets)).exp()

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return labels int64 [N]: the first whose cumulative probability exceeds the drawn number."""
        every = [self.losses(outputs, _labels(outputs, label)) for label in range(self.classes)]
        cumulative = torch.stack(every, dim=1).neg().exp().cumsum(dim=1)
        # Probabilities add up to 1 but for rounding: the last sum stands for 1.
        points = uniform.to(cumulative) * cumulative[:, -1]
        return torch.searchsorted(cumulative, points[:, None], right=True).flatten().clamp(max=self.classes - 1)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained labels, int64 [N]."""
        if isinstance(choice, int):
            return torch.full_like(targets, choice)
        return targets if choice == "true" else outputs.argmax(dim=1)

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return labels, and the model's probability of the explained one."""
        return {
            "label": targets,
            "predicted_label": outputs.argmax(dim=1),
            "explained_label": explained,
            "probability": (-losses).exp(),
        }

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return the number of classes that the data must have, in words, unless it is one of ``class_counts``."""
        return None if self.classes in class_counts else f"data of {self.classes} classes"

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError for a class that the task or the data lacks."""
        count = min(self.classes, class_count)
        if isinstance(choice, int) and choice >= count:
            raise ConfigurationError(
                f"expected score.explained_label 'predicted', 'true' or a class from 0 to {count - 1}, found "
                f"{choice}; name one of the {count} classes of task and data"
            )


def per_example(losses: Tensor, count: int) -> Tensor:
    """Return ``losses`` unless their shape is not [count]: then raise ModelError."""
    if losses.shape != (count,):
        raise ModelError(
            f"expected a loss for each of {count} examples, found shape {list(losses.shape)}; "
            f"let the task's loss return one value per example (reduction='none')"
        )
    return losses


def differentiated(losses: PerExampleLoss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each example's loss at its outputs, by automatic differentiation."""
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(losses(leaf, targets).sum(), leaf)
    return gradient


def _labels(outputs: Tensor, label: int) -> Tensor:
    return torch.full((len(outputs),), label, dtype=torch.int64, device=outputs.device)
