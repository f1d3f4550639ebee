"""A class at each of an example's places: what tokens of a sequence and pixels of an image have in common.

Axes: N examples, K places, V classes. An example's loss is the sum over its places but those that are left out, whose
target is ``left_out``. Any other target below 0 means that the place has none: the model's is explained there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from relatif.pipeline.draws import further
from relatif.schemas.errors import DataError, ModelError

TERMS = 2048
"""Largest number of terms of an exact Fisher: each is a backward pass."""

SUMMED = 1024
"""Largest number of classes whose probabilities are summed one by one."""

PLACES = 3
"""Places that are summed over."""


@dataclass(frozen=True)
class Places:
    """One of ``classes`` at each place; places whose target is ``left_out`` have no loss."""

    classes: int
    left_out: int

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over places of ``-log softmax(outputs)[target]``, [N]; raises DataError for other targets."""
        self._check(outputs, targets)
        flat = functional.cross_entropy(
            outputs.flatten(0, 1), targets.flatten(), ignore_index=self.left_out, reduction="none"
        )
        return flat.reshape(targets.shape).sum(dim=1)

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``p - onehot(target)`` at each place, [N, K, V], the target's entry as minus the sum of the others."""
        self._check(outputs, targets)
        kept = self.kept(targets)
        index = torch.where(kept, targets, 0)[..., None]
        found = outputs.detach().softmax(dim=2).scatter(2, index, 0.0)
        found = found.scatter_(2, index, -found.sum(dim=2, keepdim=True))
        return torch.where(kept[..., None], found, 0.0)

    def terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a term for every place and class: the gradient there, [N, K, V], and the class's probability, [N].

        Places are independent given the outputs, so the expectation of ``g g'`` is the sum over places. Raises
        ModelError, saying what to set, where there are more than TERMS.
        """
        places = outputs.shape[1]
        if places * self.classes > TERMS:
            raise ModelError(
                f"expected at most {TERMS:,} terms of the exact Fisher, one for every place and class, found "
                f"{places:,} x {self.classes:,}; set curvature.fisher = sampled, with more curvature.fisher_samples "
                f"for a closer one"
            )
        probabilities = outputs.detach().softmax(dim=2) * self.kept(targets)[..., None]
        for place in range(places):
            for label in range(self.classes):
                alone = torch.full_like(targets, self.left_out)
                alone[:, place] = label
                yield self.gradient(outputs, alone), probabilities[:, place, label]

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets int64 [N, K], each place's by a number of its own, made of ``uniform`` [N]."""
        cumulative = outputs.detach().softmax(dim=2).cumsum(dim=2)
        # Probabilities add up to 1 but for rounding: the last sum stands for 1.
        points = further(uniform, outputs.shape[1]).to(cumulative) * cumulative[..., -1]
        found = torch.searchsorted(cumulative, points[..., None], right=True)[..., 0]
        return found.clamp(max=self.classes - 1)

    def kept(self, targets: Tensor) -> Tensor:
        """Return the places that count, [N, K] bool."""
        return targets != self.left_out

    def masked(self, found: Tensor, targets: Tensor) -> Tensor:
        """Return ``found`` [N, K] with what the data's targets leave out left out."""
        return torch.where(self.kept(targets), found, self.left_out)

    def predicted(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the most probable classes, int64 [N, K], where the data's targets are not left out.

        Where all of an example's places are left out every place counts.
        """
        found = outputs.detach().argmax(dim=2)
        return torch.where(self.kept(targets).any(dim=1, keepdim=True), self.masked(found, targets), found)

    def missing(self, targets: Tensor) -> Tensor:
        """Return which examples have no target at any place, [N] bool."""
        return ~((targets >= 0) & self.kept(targets)).any(dim=1)

    def logit(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over places of the target's output, [N]."""
        kept = self.kept(targets)
        own = outputs.gather(2, torch.where(kept, targets, 0)[..., None])[..., 0]
        return torch.where(kept, own, 0.0).sum(dim=1)

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over places of ``log p / (1 - p)`` of the target, [N]: its output less all others'."""
        kept = self.kept(targets)
        index = torch.where(kept, targets, 0)[..., None]
        others = outputs.scatter(2, index, -torch.inf).logsumexp(dim=2)
        return torch.where(kept, outputs.gather(2, index)[..., 0] - others, 0.0).sum(dim=1)

    def figures(self, outputs: Tensor, targets: Tensor, called: tuple[str, str]) -> tuple[str, ...]:
        """Return in words the share of places that are right and their mean loss; nothing where none has a target.

        ``called`` are the names of a place and of a class.
        """
        counted = self.kept(targets) & (targets >= 0)
        own = targets[counted]
        if not len(own):
            return ()
        right = float((outputs.argmax(dim=2)[counted] == own).double().mean())
        loss = float(self.losses(outputs, torch.where(counted, targets, self.left_out)).sum()) / len(own)
        most = int(own.bincount().max()) / len(own)
        place, label = called
        return (
            f"accuracy {right:.1%} and mean loss {loss:.4g} nats of {len(own):,} {place}s (the most frequent {label}: "
            f"{most:.1%})",
        )

    def total_probability(self, losses: Callable[[Tensor, Tensor], Tensor], outputs: Tensor) -> Tensor:
        """Return the sum over all classes of ``exp(-losses)`` at one place, the farthest from 1 of PLACES places, [N].

        ``losses`` takes outputs [N, 1, V] and targets [N, 1] of a place that is alone. Of more than SUMMED classes,
        whose sum would take long, the loss of the likeliest one is compared with softmax.
        """
        found = torch.ones(len(outputs), dtype=outputs.dtype, device=outputs.device)
        for place in range(min(PLACES, outputs.shape[1])):
            total = self._total_at(losses, outputs[:, place : place + 1].detach())
            found = torch.where((total - 1).abs() > (found - 1).abs(), total, found)
        return found

    def _total_at(self, losses: Callable[[Tensor, Tensor], Tensor], outputs: Tensor) -> Tensor:
        likeliest = outputs.argmax(dim=2)
        if self.classes > SUMMED:
            return (-losses(outputs, likeliest) - outputs.log_softmax(dim=2).amax(dim=2)[:, 0]).exp()
        every = [(-losses(outputs, torch.full_like(likeliest, label))).exp() for label in range(self.classes)]
        return torch.stack(every).sum(dim=0)

    def _check(self, outputs: Tensor, targets: Tensor) -> None:
        if outputs.ndim != 3 or outputs.shape[2] != self.classes:
            raise ModelError(
                f"expected scores of {self.classes} classes at each place, found {list(outputs.shape)} (examples, "
                f"places, classes); let the model return as many, or give the likelihood their number"
            )
        if targets.shape != outputs.shape[:2] or targets.is_floating_point():
            raise DataError(
                f"expected targets int64 {list(outputs.shape[:2])}, one for each place of the model's outputs, found "
                f"{str(targets.dtype).removeprefix('torch.')} {list(targets.shape)}; give a target for each place"
            )
        wrong = ((targets < 0) | (targets >= self.classes)) & self.kept(targets)
        if bool(wrong.any()):
            raise DataError(
                f"expected targets from 0 to {self.classes - 1}, or {self.left_out} where a place is left out, found "
                f"{int(targets[wrong][0])}; correct them, or give the likelihood its ignore_index"
            )
