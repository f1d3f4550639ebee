"""Random subsets of the training set, and models trained on them: the units that a linear datamodeling score needs.

Axes: n training examples, S subsets.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.devices import Worker
from relatif.pipeline.draws import uniform
from relatif.pipeline.retraining.retraining import RetrainingPlan, RetrainingSession
from relatif.pipeline.runs.durable import Made
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import ConfigurationError

SUBSET_DRAW = 2**33
"""Number of the first subset's draw: far from those of labels and flips, so that equal seeds choose independently."""


@dataclass(frozen=True)
class Subsets:
    """Subsets of equal size of ``rows`` training examples; each depends on the seed and its own number alone."""

    rows: int
    share: float
    seed: int

    @property
    def size(self) -> int:
        """Examples of a subset. Raises ConfigurationError where that is none or all of them."""
        size = round(self.share * self.rows)
        if not 0 < size < self.rows:
            raise ConfigurationError(
                f"expected linear_datamodeling.subset_share to choose some but not all of {self.rows} training "
                f"examples, found {self.share:g}, which chooses {size}; change it, or use more training examples"
            )
        return size

    def members(self, number: int) -> Tensor:
        """Return which examples a subset has, [n] bool; raises as ``size``."""
        order = uniform(torch.arange(self.rows), self.seed, SUBSET_DRAW + number).argsort(stable=True)
        chosen = torch.zeros(self.rows, dtype=torch.bool)
        chosen[order[: self.size]] = True
        return chosen

    def mask(self, count: int) -> Tensor:
        """Return which examples the first ``count`` subsets have, [n, S] bool."""
        return torch.stack([self.members(number) for number in range(count)], dim=1)


@dataclass(frozen=True)
class SubsetUnit:
    """A model trained on subset ``number``, with the seed that is ``repeat`` above the configured one."""

    number: int
    repeat: int
    digest: str

    @property
    def name(self) -> str:
        """Name in logs and manifests."""
        return f"subset {self.number}"

    @property
    def file(self) -> str:
        """Path of the model."""
        return run_directory.subset_model(self.number, self.repeat)

    @property
    def manifest(self) -> str:
        """Path of its proof."""
        return run_directory.subset_manifest(self.number, self.repeat)


@dataclass(frozen=True)
class SubsetPlan:
    """What all models of subsets share."""

    subsets: Subsets
    retraining: RetrainingPlan

    def __call__(self, worker: Worker) -> "SubsetTrainer":
        """Load what retraining needs in an actor."""
        return SubsetTrainer(self.subsets, self.retraining.load(worker))


@dataclass(frozen=True)
class SubsetTrainer:
    """Trains on one subset at a time, with the settings of the run: the mean is over the subset's examples."""

    subsets: Subsets
    held: RetrainingSession

    def __call__(self, unit: SubsetUnit) -> Made:
        """Train and write. Raises what the task's retraining raises."""
        config = self.held.plan.config
        seeded = config.model_copy(update={"seed": config.seed + unit.repeat})
        state = self.held.on(self.held.data.only(self.subsets.members(unit.number)), seeded)
        store = self.held.plan.source.store
        return Made((write_tensors(store, unit.file, state, {"subset": str(unit.number)}),))
