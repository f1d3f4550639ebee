"""What a model's outputs mean for an example's target: losses, gradients, the Fisher's terms, and table columns.

Axes: N examples, C classes. A likelihood is the only thing that knows what a target is; everything else asks it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.curvature.class_scores import (
    largest,
    logit,
    own_less_others,
    same_label,
    softmax_gradient,
    without,
)
from relatif.pipeline.curvature.class_weights import Weighting, check_smoothing, checked_weights
from relatif.pipeline.curvature.per_example import PerExampleLoss, differentiated, per_example
from relatif.schemas.errors import ConfigurationError

__all__ = ["Categorical", "Likelihood", "PerExampleLoss", "Term", "cross_entropy", "differentiated", "per_example"]

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

    A class may have more: ``total_probability(outputs)``, without ``classes``, the sum or integral of ``exp(-loss)``
    over all targets, [N], which the audit of a model compares with 1; ``curvature_terms(outputs, targets)``, terms of
    the exact Fisher as gradients at the outputs with weights [N], where drawing targets does not express them;
    ``drawn(outputs, targets, uniform)``, a ``sample`` that leaves out what the data's targets leave out;
    ``missing(targets)``, the examples that have none, [N] bool; ``logit``, ``margin`` and ``output`` of outputs and
    targets, [N], as ``score.measurement`` names them, ``default_measurement(choice)`` and
    ``check_measurement(name, choice)``; and the properties ``default_fisher``, ``text`` and ``gauss_newton``, what
    the exact curvature is where the loss is no likelihood.
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
    """One of ``classes`` labels, counted from 0; ``loss`` must be a negative log-likelihood in nats.

    With ``class_weights`` (a number for each class) or ``label_smoothing`` the loss is cross-entropy as torch defines
    it with these. That is no likelihood: the curvature is then the GGN, ``sum_c q_c w_c (diag p - p p')``. Raises
    ConfigurationError for other weights, and for weights or smoothing beside a loss of one's own.
    """

    classes: int
    loss: PerExampleLoss = cross_entropy
    class_weights: tuple[float, ...] | None = None
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", checked_weights(self.class_weights, self.classes))
        check_smoothing(self.label_smoothing)
        if self.weighting is not None and self.loss is not cross_entropy:
            raise ConfigurationError(
                "expected class_weights and label_smoothing with relatif's cross_entropy, found a loss of its own "
                "beside them; leave one out"
            )

    @property
    def weighting(self) -> Weighting | None:
        """What makes the loss another than the likelihood's, or None."""
        if self.class_weights is None and not self.label_smoothing:
            return None
        return Weighting(self.class_weights, self.label_smoothing)

    @property
    def gauss_newton(self) -> str | None:
        """Return in words what the curvature is where the loss is no likelihood, else None."""
        return None if self.weighting is None else self.weighting.curvature

    @property
    def likelihood(self) -> "Categorical":
        """The likelihood of the labels, without weights and smoothing."""
        return self if self.weighting is None else replace(self, class_weights=None, label_smoothing=0.0)

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the loss of each label, [N]; raises ModelError where ``loss`` gives no loss per example."""
        loss = self.loss if self.weighting is None else self.weighting.losses
        return per_example(loss(outputs, targets), len(targets))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient at the outputs, [N, ...], with all digits also of labels that are almost certain.

        For softmax it is ``p - onehot``, with the label's entry as minus the sum of the others. Any other loss is
        differentiated, that of an almost certain label y by the others': ``sum_c p_c g_c = 0`` as the probabilities
        sum to 1, so that ``g_y = -sum_(c != y) p_c g_c / p_y``.
        """
        if self.loss is cross_entropy:
            plain = softmax_gradient(outputs, targets)
            return plain if self.weighting is None else self.weighting.gradient(plain, outputs, targets)
        gradient = differentiated(self.losses, outputs, targets)
        sure = _sure(self._losses_of(outputs, targets))
        if len(sure):
            gradient[sure] = self._by_others(outputs[sure].detach(), targets[sure], gradient[sure])
        return gradient

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield every label with its probability, ``exp(-loss)`` without weights and smoothing."""
        for label in range(self.classes):
            targets = same_label(outputs, label)
            yield targets, (-self.likelihood.losses(outputs, targets)).exp()

    def curvature_terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the gradient of every label's likelihood, weighed by its probability and ``sum_c q_c w_c``."""
        likelihood, weighting = self.likelihood, self.weighting
        scale = None if weighting is None else weighting.curvature_weights(outputs, targets)
        for labels, weights in likelihood.expectation(outputs):
            yield likelihood.gradient(outputs, labels), weights if scale is None else weights * scale

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return labels int64 [N]: the first whose cumulative probability exceeds the drawn number."""
        likelihood = self.likelihood
        every = [likelihood.losses(outputs, same_label(outputs, label)) for label in range(self.classes)]
        cumulative = torch.stack(every, dim=1).neg().exp().cumsum(dim=1)
        # Probabilities add up to 1 but for rounding: the last sum stands for 1.
        points = uniform.to(cumulative) * cumulative[:, -1]
        return torch.searchsorted(cumulative, points[:, None], right=True).flatten().clamp(max=self.classes - 1)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained labels, int64 [N]; ModelError where outputs are no scores of labels [N, C]."""
        if isinstance(choice, int):
            return torch.full_like(targets, choice)
        return targets if choice == "true" else self.most_probable(outputs)

    def logit(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the label's output, [N]; ModelError where outputs are no scores of labels, [N, C]."""
        return logit(outputs, targets, self.classes)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``log p / (1 - p)`` of the label, [N], as its ``log p`` less that of all others together."""
        if self.loss is cross_entropy:
            return own_less_others(outputs, targets)
        every = [-self.losses(outputs, same_label(outputs, label)) for label in range(self.classes)]
        return own_less_others(torch.stack(every, dim=1), targets)

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return labels, and the model's probability of the explained one."""
        return {
            "label": targets,
            "predicted_label": self.most_probable(outputs),
            "explained_label": explained,
            "probability": (-losses if self.weighting is None else -self.likelihood.losses(outputs, explained)).exp(),
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
        every = [self._losses_of(outputs, same_label(outputs, label)) for label in range(self.classes)]
        return torch.stack(every, dim=1).neg().exp()

    def _by_others(self, outputs: Tensor, targets: Tensor, gradient: Tensor) -> Tensor:
        """Return the gradients of almost certain targets from those of all other labels, for ``gradient`` as it is."""
        probabilities = without(self._probabilities(outputs), targets)
        ones = (1,) * (outputs.ndim - 1)
        total, size = torch.zeros_like(outputs), torch.zeros_like(outputs)
        for label in range(self.classes):
            weights = probabilities[:, label].to(outputs).reshape(-1, *ones)
            # A label of probability 0 adds nothing, whatever its gradient is.
            other = torch.where(weights > 0, differentiated(self.losses, outputs, same_label(outputs, label)), 0.0)
            total -= weights * other
            size = torch.maximum(size, other.abs())
        found = total / (1 - probabilities.sum(dim=1).to(outputs)).reshape(-1, *ones)
        # Where more than rounding lies between both, the loss is flat or not quite normalized there: as it is, then.
        rounded = (found - gradient).abs() <= ROUNDED * size.flatten(1).amax(dim=1).reshape(-1, *ones)
        return torch.where(rounded.flatten(1).all(dim=1).reshape(-1, *ones), found, gradient)

    def most_probable(self, outputs: Tensor) -> Tensor:
        """Return the label of the least loss, int64 [N]; ModelError for outputs that softmax can't take, not [N, C]."""
        if self.loss is cross_entropy:
            return largest(outputs)
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
        if self.weighting is not None:
            return losses  # not the logarithm of a probability
        sure = _sure(losses)
        if not len(sure):
            return losses
        outputs, targets = outputs[sure].detach(), targets[sure]
        softmax = self.loss is cross_entropy
        every = outputs.softmax(dim=1) if softmax else self._probabilities(outputs)
        found = -torch.log1p(-without(every, targets).sum(dim=1))
        rounded = (found - losses[sure]).abs() <= ROUNDED
        return losses.index_put((sure,), torch.where(rounded, found.to(losses), losses[sure]))


def _sure(losses: Tensor) -> Tensor:
    """Return the rows whose target is almost certain."""
    return torch.nonzero(losses < SURE).flatten()
