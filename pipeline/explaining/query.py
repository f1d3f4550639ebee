"""One input to explain, as the run's data set stores it: where it came from, and what its own target is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline import inputs as batches
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.datasets.shards import Shard, StoredExamples
from relatif.pipeline.explaining.chosen_pairs import read_rows
from relatif.pipeline.runs.run import Run
from relatif.pipeline.runs.source import model_examples
from relatif.pipeline.tasks.task import Task
from relatif.schemas.errors import ConfigurationError

TEST, TRAIN = "test", "train"

TOLD = {TEST: "test input", TRAIN: "training example"}
"""What a row of each part is called."""


@dataclass(frozen=True, eq=False)
class Query:
    """An input, [1, ...] as it is stored, with its own target: UNLABELLED, or NaN of numbers, where it is not known.

    ``told`` is what people read of where it came from. ``split`` and ``row`` are set where it is a row of the run.
    Of what a user gave, ``notes`` say what was done to it, and ``text`` is the text before it was encoded.
    """

    stored: StoredExamples
    told: str
    split: str | None = None
    row: int | None = None
    notes: tuple[str, ...] = ()
    text: str | None = None

    def examples(self, task: Task, device: torch.device | str) -> Examples:
        """Return it as the model reads it."""
        return model_examples(task, self.stored.inputs, self.stored.targets, self.row or 0, device)


def query_of_row(run: Run, split: str, row: int) -> Query:
    """Return a row of the run's test or training part; ConfigurationError where the part does not have it."""
    stored, targets = read_part_rows(run, split, [row])
    return Query(StoredExamples(stored, targets, row), f"{TOLD[split]} {row}", split, row)


def read_part_rows(run: Run, split: str, rows: Sequence[int]) -> tuple[batches.Inputs, Tensor]:
    """Return the stored inputs and targets of rows of a part, in any order; ConfigurationError for one it lacks."""
    shards = part_shards(run, split)
    count, wanted = shards[-1].stop, sorted(set(rows))
    beyond = [row for row in wanted if not 0 <= row < count]
    if beyond or not wanted:
        found = beyond[0] if beyond else "none"
        raise ConfigurationError(f"expected a {TOLD[split]} from 0 to {count - 1}, found {found}; name one of those")
    stored, targets = read_rows(run.source, shards, wanted)
    places = torch.searchsorted(torch.tensor(wanted), torch.tensor(list(rows)))
    return batches.rows(stored, places), targets[places]


def part_shards(run: Run, split: str) -> tuple[Shard, ...]:
    """Return the training set, or all test inputs, whichever of them were explained, row group by row group."""
    limit = run.config.data.train_limit if split == TRAIN else None
    return run.dataset.shards(split, rows=1, limit=limit)
