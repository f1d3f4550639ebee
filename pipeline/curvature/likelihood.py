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


SURE = 1e-2
"""Loss below which a label counts as almost certain: a gradient that is a difference of numbers near 1 is off by about
1e-16, so above this it has 13 digits."""

HALF = 0.69
"""Loss of a probability of a little more than 1/2, more than which no other label has."""

ROUNDED = 1e-12
"""What float64 may round in a loss, or in a gradient relative to the other labels': thousands of times its unit."""


class Likelihood(Protocol):
    """The probability p(target | outputs) that a model learns. Implementations are values: frozen and without state.

    A class without ``classes`` may have one more method: ``total_probability(outputs)`` returns, [N], the sum or the
    integral of ``exp(-loss)`` over all targets. The audit of a model refuses a likelihood where it is not 1.
    """

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

        Leave-one-out and linear datamodeling need ``explained_label``, a whole number. A column ``loss`` replaces
        ``losses``, where it can be told more closely.
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
        """Return the gradient at the outputs, [N, ...], with all digits also of labels that are almost certain.

        For softmax it is ``p - onehot``, with the label's entry as minus the sum of the others. Any other loss is
        differentiated, that of an almost certain label y by the others': ``sum_c p_c g_c = 0`` as the probabilities
        sum to 1, so that ``g_y = -sum_(c != y) p_c g_c / p_y``.
        """
        if self.loss is cross_entropy:
            return _softmax_gradient(outputs, targets)
        gradient = differentiated(self.losses, outputs, targets)
        sure = _sure(self._losses_of(outputs, targets))
        if len(sure):
            gradient[sure] = self._by_others(outputs[sure].detach(), targets[sure], gradient[sure])
        return gradient

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
        """Return the explained labels, int64 [N]; ModelError where outputs are no scores of labels [N, C]."""
        if isinstance(choice, int):
            return torch.full_like(targets, choice)
        return targets if choice == "true" else self.most_probable(outputs)

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return labels, and the model's probability of the explained one."""
        return {
            "label": targets,
            "predicted_label": self.most_probable(outputs),
            "explained_label": explained,
            "probability": (-losses).exp(),
            "loss": self.refined(outputs, explained, losses),
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

    def _losses_of(self, outputs: Tensor, targets: Tensor) -> Tensor:
        with torch.no_grad():
            return self.losses(outputs.detach(), targets)

    def _probabilities(self, outputs: Tensor) -> Tensor:
        """Return every label's probability, [N, C]."""
        every = [self._losses_of(outputs, _labels(outputs, label)) for label in range(self.classes)]
        return torch.stack(every, dim=1).neg().exp()

    def _by_others(self, outputs: Tensor, targets: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradients of almost certain targets from those of all other labels, for ``gradient`` as it is."""
        probabilities = _without(self._probabilities(outputs), targets)
        ones = (1,) * (outputs.ndim - 1)
        total, largest = torch.zeros_like(outputs), torch.zeros_like(outputs)
        for label in range(self.classes):
            weights = probabilities[:, label].to(outputs).reshape(-1, *ones)
            # A label of probability 0 adds nothing, whatever its gradient is.
            other = torch.where(weights > 0, differentiated(self.losses, outputs, _labels(outputs, label)), 0.0)
            total -= weights * other
            largest = torch.maximum(largest, other.abs())
        found = total / (1 - probabilities.sum(dim=1).to(outputs)).reshape(-1, *ones)
        # Where more than rounding lies between both, the loss is flat or not quite normalized there: as it is, then.
        rounded = (found - gradient).abs() <= ROUNDED * largest.flatten(1).amax(dim=1).reshape(-1, *ones)
        return torch.where(rounded.flatten(1).all(dim=1).reshape(-1, *ones), found, gradient)

    def most_probable(self, outputs: Tensor) -> Tensor:
        """Return the label of the least loss, int64 [N]; ModelError for outputs that softmax can't take, not [N, C]."""
        if self.loss is cross_entropy:
            return _largest(outputs)
        outputs = outputs.detach()
        found = torch.zeros(len(outputs), dtype=torch.int64, device=outputs.device)
        unknown = torch.ones_like(found, dtype=torch.bool)
        if outputs.ndim == 2 and outputs.shape[1] == self.classes:
            # Mostly the largest output's label, which is known to be the one where it has more than half.
            found = outputs.argmax(dim=1)
            unknown = self._losses_of(outputs, found) > HALF
        if bool(unknown.any()):
            found[unknown] = self._probabilities(outputs[unknown]).argmax(dim=1)
        return found

    def refined(self, outputs: Tensor, targets: Tensor, losses: Tensor) -> Tensor:
        """Return losses, [N], with all digits of those near 0: ``-log(1 - q)`` of the others' probability q."""
        sure = _sure(losses)
        if not len(sure):
            return losses
        outputs, targets = outputs[sure].detach(), targets[sure]
        softmax = self.loss is cross_entropy
        every = outputs.softmax(dim=1) if softmax else self._probabilities(outputs)
        found = -torch.log1p(-_without(every, targets).sum(dim=1))
        rounded = (found - losses[sure]).abs() <= ROUNDED
        return losses.index_put((sure,), torch.where(rounded, found.to(losses), losses[sure]))


def per_example(losses: Tensor, count: int) -> Tensor:
    """Return ``losses`` unless they are no tensor of shape [count]: then raise ModelError."""
    if not isinstance(losses, Tensor):
        raise ModelError(
            f"expected a loss for each of {count} examples, found {type(losses).__name__}; let the task's loss return "
            f"a tensor with one value per example (reduction='none'), and no .item()"
        )
    if losses.shape != (count,):
        raise ModelError(
            f"expected a loss for each of {count} examples, found shape {list(losses.shape)}; "
            f"let the task's loss return one value per example (reduction='none')"
        )
    return losses


def differentiated(losses: PerExampleLoss, outputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of each example's loss at its outputs, by automatic differentiation.

    Raises ModelError for losses that are cut from the outputs.
    """
    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        found = losses(leaf, targets)
        if not found.requires_grad:
            raise ModelError(
                "expected losses that are differentiated at the model's outputs, found them cut from those; let the "
                "task's loss compute in torch, without detach(), no_grad(), argmax or numpy"
            )
        (gradient,) = torch.autograd.grad(found.sum(), leaf)
    return gradient


def _softmax_gradient(outputs: Tensor, labels: Tensor) -> Tensor:
    """Return ``p - onehot(label)``, [N, C], the label's entry as minus the sum of the others: nothing cancels."""
    gradient = _without(outputs.detach().softmax(dim=1), labels)
    return gradient.scatter_(1, labels[:, None], -gradient.sum(dim=1, keepdim=True))


def _largest(outputs: Tensor) -> Tensor:
    """Return the label with the largest output, [N]; ModelError for outputs that are no scores of labels."""
    if outputs.ndim != 2:
        raise ModelError(
            f"expected the model to return a score for each label, [N, C], found shape {list(outputs.shape)}; let it "
            f"return those, or give the task a likelihood of its own"
        )
    return outputs.argmax(dim=1)


def _sure(losses: Tensor) -> Tensor:
    """Return the rows whose target is almost certain."""
    return torch.nonzero(losses < SURE).flatten()


def _without(values: Tensor, labels: Tensor) -> Tensor:
    """Return values [N, C] with 0 at each row's label."""
    return values.scatter(1, labels[:, None], 0.0)


def _labels(outputs: Tensor, label: int) -> Tensor:
    return torch.full((len(outputs),), label, dtype=torch.int64, device=outputs.device)
