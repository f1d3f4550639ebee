"""Several labels, each of which is there or not: one logit and one coin for each.

Axes: N examples, L labels. A target's labels that are NaN are left out: they have no loss and no gradient.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

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

SHOWN = 8
"""Labels whose accuracies are told one by one."""


@dataclass(frozen=True)
class Bernoulli:
    """Targets [N, L] of 0 and 1, or [N] where L is 1, are independent coins by the model's ``labels`` logits.

    The loss is the sum of the labels' binary cross-entropies in nats. Raises ConfigurationError for less than 1 label.
    """

    labels: int = 1

    def __post_init__(self) -> None:
        if self.labels < 1:
            raise ConfigurationError(f"expected a Bernoulli likelihood of at least 1 label, found {self.labels}")

    @property
    def classes(self) -> int | None:
        """None: targets are no class labels."""
        return None

    @property
    def text(self) -> str:
        """Return in words what targets are."""
        return f"{self.labels} label(s), each there or not"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, [N] in nats, with all digits of those near 0; ModelError or DataError for other shapes."""
        logits = output_rows(outputs, self.labels)
        rows = target_rows(targets, logits)
        # -log sigmoid keeps its digits where a label is almost certain.
        filled = rows.nan_to_num(nan=0.0)
        terms = -(filled * logsigmoid(logits) + (1 - filled) * logsigmoid(-logits))
        return (terms * present(rows)).sum(dim=1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``p - y`` in the outputs' shape, as ``p (1 - y) - (1 - p) y``: nothing cancels."""
        logits = output_rows(outputs.detach(), self.labels)
        rows = target_rows(targets, logits)
        found = logits.sigmoid() * (1 - rows) - (-logits).sigmoid() * rows
        return torch.where(rows.isnan(), 0.0, found).reshape(outputs.shape)

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield, for each label, the target ``p - 1`` there and ``p`` elsewhere: its gradient is 1 there alone.

        Labels are independent, so the expectation of ``g g'`` is diagonal, ``p (1 - p)``, which is the weight.
        """
        logits = output_rows(outputs.detach(), self.labels)
        for place, unit in enumerate(unit_terms(torch.ones_like(logits))):
            yield logits.sigmoid() - unit, self._variances(logits)[:, place]

    def curvature_terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the same as gradients at the outputs with weights, 0 where a target's label is left out."""
        logits = output_rows(outputs.detach(), self.labels)
        weights = self._variances(logits) * present(target_rows(targets, logits))
        for place, gradient in enumerate(unit_terms(torch.ones_like(logits))):
            yield gradient.reshape(outputs.shape), weights[:, place]

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets [N, L], by numbers made of ``uniform`` [N]."""
        logits = output_rows(outputs.detach(), self.labels)
        return (further(uniform, self.labels).to(logits) < logits.sigmoid()).to(logits)

    def drawn(self, outputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets [N, L] without the labels that the example's own target leaves out."""
        return left_out_alike(self.sample(outputs, uniform), targets)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained targets [N, L]: the data's, the model's, or that label ``choice`` alone is there.

        Raises DataError for a target of the data's that is neither 0 nor 1.
        """
        logits = output_rows(outputs.detach(), self.labels)
        if choice == "true":
            rows = target_rows(targets, logits)
            require((rows == 0) | (rows == 1), rows, "0 or 1 for each label")
            return rows
        if isinstance(choice, str):
            return (logits > 0).to(logits)
        left_out = torch.arange(self.labels, device=logits.device) != choice
        return torch.ones_like(logits).masked_fill(left_out, torch.nan)

    def missing(self, targets: Tensor) -> Tensor:
        """Return which examples have no target, [N] bool."""
        return without_any(targets)

    def logit(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the explained labels' logits, [N], with the sign turned of those that are not there."""
        logits = output_rows(outputs, self.labels)
        rows = target_rows(targets, logits)
        # No product with NaN: it would be the gradient's, too.
        return ((2 * rows - 1).nan_to_num(nan=0.0) * logits).sum(dim=1)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum of the explained labels' ``log p / (1 - p)``, [N]: of a coin it is the logit."""
        return self.logit(outputs, targets)

    def figures(self, outputs: Tensor, targets: Tensor) -> tuple[str, ...]:
        """Return in words the share of labels that are right, of all and of each, without those that are left out."""
        logits = output_rows(outputs.detach(), self.labels)
        rows = target_rows(targets, logits)
        there = present(rows)
        count = there.sum(dim=0).clamp(min=1)
        right = ((logits > 0) == (rows > 0)) * there
        positive = (rows.nan_to_num(nan=0.0) * there).sum(dim=0)
        guessed = torch.maximum(positive, there.sum(dim=0) - positive)
        each = ", ".join(f"{share:.1%}" for share in (right.sum(dim=0) / count).tolist()[:SHOWN])
        more = ", ..." if self.labels > SHOWN else ""
        total = there.sum().clamp(min=1)
        return (
            f"accuracy {float(right.sum() / total):.1%} of {int(there.sum()):,} labels (each label's more frequent "
            f"value: {float(guessed.sum() / total):.1%}), label by label {each}{more}",
        )

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return targets, and as predictions the labels' probabilities, [N, L]."""
        logits = output_rows(outputs.detach(), self.labels)
        return {"target": target_rows(targets, logits), "prediction": logits.sigmoid()}

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return that data without classes is needed, unless it is there."""
        return no_classes_expected(class_counts, "a list of columns of 0 and 1 as data.label_column")

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError for a label that the model lacks."""
        if isinstance(choice, int) and choice >= self.labels:
            raise ConfigurationError(
                f"expected score.explained_label 'predicted', 'true' or a label from 0 to {self.labels - 1}, found "
                f"{choice}; name one of the model's {self.labels} label(s)"
            )

    def total_probability(self, outputs: Tensor) -> Tensor:
        """Return the sum of ``exp(-loss)`` over all 2^L targets, [N], label by label."""
        logits = output_rows(outputs.detach(), self.labels)
        steps = torch.arange(2, dtype=logits.dtype, device=logits.device)
        return summed_over_lines(self.losses, outputs.detach(), torch.zeros_like(logits), steps, 1.0)

    def _variances(self, logits: Tensor) -> Tensor:
        return logits.sigmoid() * (-logits).sigmoid()
