"""A class for each pixel: the likelihood of a segmentation.

Axes: N examples, C classes; H rows and W columns, or any other axes of places.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from relatif.pipeline.curvature.likelihood import Term
from relatif.pipeline.curvature.likelihood_places import Places
from relatif.schemas.errors import ConfigurationError


@dataclass(frozen=True)
class DenseCategorical:
    """One of ``class_count`` classes at each pixel; an example's loss is the sum over its pixels, in nats.

    Outputs are [N, C, H, W], targets int64 [N, H, W]; pixels whose target is ``ignore_index`` are left out. Raises
    ConfigurationError for fewer than 2 classes and an ignore_index that is a class.
    """

    class_count: int
    ignore_index: int = -100

    def __post_init__(self) -> None:
        if self.class_count < 2 or 0 <= self.ignore_index < self.class_count:
            raise ConfigurationError(
                f"expected a DenseCategorical likelihood of at least 2 classes, with an ignore_index that is no class, "
                f"found {self}; correct it"
            )

    @property
    def classes(self) -> int | None:
        """None: targets are no class labels, but images of them."""
        return None

    @property
    def text(self) -> str:
        """Return in words what targets are."""
        return f"a class of {self.class_count} for each pixel"

    @property
    def default_fisher(self) -> Literal["sampled"]:
        """Return ``sampled``: the exact Fisher has a term for every pixel and class."""
        return "sampled"

    def losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the losses, [N] in nats; DataError for other shapes and targets."""
        return self._places.losses(_rows(outputs), targets.flatten(1))

    def gradient(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return ``p - onehot(target)`` at each pixel, in the outputs' shape."""
        return _back(self._places.gradient(_rows(outputs), targets.flatten(1)), outputs)

    def expectation(self, outputs: Tensor) -> Iterator[Term]:
        """Yield the target that has one class at one pixel, and its probability, for every pixel and class."""
        rows, places = _rows(outputs), self._places
        every = torch.zeros(rows.shape[:2], dtype=torch.int64, device=outputs.device)
        for number, (_, weights) in enumerate(places.terms(rows, every)):
            alone = torch.full_like(every, self.ignore_index)
            alone[:, number // self.class_count] = number % self.class_count
            yield alone.reshape(len(outputs), *outputs.shape[2:]), weights

    def curvature_terms(self, outputs: Tensor, targets: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a gradient and its weight for every pixel that is not left out and every class.

        Raises ModelError, saying what to set, where these are too many.
        """
        for gradient, weights in self._places.terms(_rows(outputs), targets.flatten(1)):
            yield _back(gradient, outputs), weights

    def sample(self, outputs: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets int64 [N, H, W], pixel by pixel, by numbers made of ``uniform`` [N]."""
        return self._places.sample(_rows(outputs), uniform).reshape(len(outputs), *outputs.shape[2:])

    def drawn(self, outputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return drawn targets without the pixels that the example's own target leaves out."""
        return self._places.masked(self.sample(outputs, uniform), targets)

    def explained(self, outputs: Tensor, targets: Tensor, choice: str | int) -> Tensor:
        """Return the explained targets int64 [N, H, W]: the data's, or the model's most probable classes."""
        if choice == "true":
            return targets
        return self._places.predicted(_rows(outputs), targets.flatten(1)).reshape(targets.shape)

    def missing(self, targets: Tensor) -> Tensor:
        """Return which examples have no target, [N] bool."""
        return self._places.missing(targets.flatten(1))

    def logit(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over pixels of the target's output, [N]."""
        return self._places.logit(_rows(outputs), targets.flatten(1))

    def margin(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the sum over pixels of the target's ``log p / (1 - p)``, [N]."""
        return self._places.margin(_rows(outputs), targets.flatten(1))

    def figures(self, outputs: Tensor, targets: Tensor) -> tuple[str, ...]:
        """Return in words how outputs do pixel by pixel, without those that are left out."""
        return self._places.figures(_rows(outputs), targets.flatten(1), ("pixel", "class"))

    def columns(self, outputs: Tensor, targets: Tensor, explained: Tensor, losses: Tensor) -> dict[str, Tensor]:
        """Return no columns: a target is a whole image."""
        return {}

    def expected_of_data(self, class_counts: Collection[int]) -> str | None:
        """Return None: data with names of the pixels' classes, and data without, will do."""
        return None

    def check_choice(self, choice: str | int, class_count: int) -> None:
        """Raise ConfigurationError for a class."""
        if isinstance(choice, int):
            raise ConfigurationError(
                f"expected score.explained_label 'predicted' or 'true' where targets are pixels, found {choice}; an "
                f"image of classes is no one class"
            )

    def total_probability(self, outputs: Tensor) -> Tensor:
        """Return the sum of ``exp(-loss)`` over all classes at a pixel, [N]."""
        ones = (1,) * (outputs.ndim - 2)

        def losses(at_one: Tensor, targets: Tensor) -> Tensor:
            return self.losses(at_one.mT.unflatten(2, ones), targets.unflatten(1, ones))

        return self._places.total_probability(losses, _rows(outputs))

    @property
    def _places(self) -> Places:
        return Places(self.class_count, self.ignore_index)


def _rows(outputs: Tensor) -> Tensor:
    """Return outputs [N, C, ...] as [N, K, C]."""
    return outputs.flatten(2).mT if outputs.ndim > 2 else outputs


def _back(rows: Tensor, outputs: Tensor) -> Tensor:
    """Return rows [N, K, C] in the shape of the outputs [N, C, ...]."""
    return rows.mT.reshape(outputs.shape)
