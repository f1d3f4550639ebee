"""Examples as a model reads them.

Axes: N examples.
"""

from dataclasses import dataclass

from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.inputs import Inputs
from relatif.schemas.errors import DataError


@dataclass(frozen=True, eq=False)
class Examples:
    """Consecutive rows of a data set: model inputs [N, ...], targets [N, ...], the row of the first.

    Raises DataError where inputs and targets are not equally many.
    """

    inputs: Inputs
    targets: Tensor
    first_index: int

    def __post_init__(self) -> None:
        if len(self) != len(self.targets):
            raise DataError(
                f"expected a target for each of {len(self)} inputs, found {len(self.targets)}; "
                f"give equally many of both"
            )

    def __len__(self) -> int:
        return batches.count(self.inputs)

    def rows(self, start: int, stop: int) -> "Examples":
        """Return the rows from ``start`` to ``stop`` (exclusive) that are there, counted within the batch."""
        return Examples(
            batches.rows(self.inputs, slice(start, stop)), self.targets[start:stop], self.first_index + start
        )
