"""The labels that a run uses: consecutive classes merged into one, and a share of the training labels flipped.

Axes: N examples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.datasets.description import Split
from relatif.pipeline.draws import uniform

FLIP_DRAW, CLASS_DRAW = 2**32, 2**32 + 1
"""Numbers of the draws that flip a label and choose its new class: far from the Fisher's, which count from 0."""


@dataclass(frozen=True)
class Labelling:
    """Labels become ``label // merge``; then a share ``flip_share`` of the training labels becomes another class.

    Which training rows are flipped, and to what class, depends on ``flip_seed`` and the row alone: each row is flipped
    with probability ``flip_share``, to each of the other classes with the same probability.
    """

    merge: int = 1
    flip_share: float = 0.0
    flip_seed: int = 0

    @property
    def text(self) -> str:
        """Return how tables describe it."""
        merged = f"label // {self.merge} of the data's" if self.merge > 1 else "the data's"
        flipped = f"; {self.flip_share:g} of the training set's flipped, seed {self.flip_seed}"
        return merged + (flipped if self.flip_share else "")

    def class_names(self, published: Sequence[str]) -> tuple[str, ...]:
        """Return the names of merged classes, for example ``0+1``."""
        starts = range(0, len(published), self.merge)
        return tuple("+".join(published[start : start + self.merge]) for start in starts)

    def flipped(self, rows: Tensor) -> Tensor:
        """Return which training rows [N] int64 have another label than the data's (after merging), as [N] bool."""
        return uniform(rows, self.flip_seed, FLIP_DRAW) < self.flip_share

    def seen(self, labels: Tensor, split: Split, *, first_row: int, class_count: int) -> Tensor:
        """Return the labels [N] that the run uses, of rows of a split from ``first_row`` on.

        ``labels`` [N] int64 are the data's, ``class_count`` is the number of merged classes.
        """
        merged = labels // self.merge
        if split != "train" or not self.flip_share:
            return merged
        rows = torch.arange(first_row, first_row + len(labels))
        # Steps of 1 to C - 1 around the classes reach every class but the label's own.
        step = 1 + (uniform(rows, self.flip_seed, CLASS_DRAW) * (class_count - 1)).long()
        return torch.where(self.flipped(rows), (merged + step) % class_count, merged)


PUBLISHED = Labelling()
"""Labels as the data gives them."""
