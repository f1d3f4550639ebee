"""The model of a task from a checkpoint that was trained elsewhere."""

from dataclasses import dataclass

import torch
from torch import Tensor

from relatif.pipeline.checkpoints.matching import matched
from relatif.pipeline.checkpoints.reading import read_checkpoint
from relatif.pipeline.tasks.task import Task


@dataclass(frozen=True, eq=False)
class Imported:
    """The state of a task's model, by PyTorch's names, and what was read and done for it, in words."""

    state: dict[str, Tensor]
    told: tuple[str, ...]


def imported(task: Task, address: str) -> Imported:
    """Return the state of a task's model from a checkpoint, a path or URL.

    Raises DataError for what is no checkpoint, ModelError that lists the differences where it is another model's, and
    NumericalError for numbers that are not finite.
    """
    checkpoint = read_checkpoint(address)
    with torch.random.fork_rng(devices=[]):
        found = matched(checkpoint, task.build_model(), task.name)
    what = f"{len(checkpoint.tensors)} tensors from {checkpoint.address} ({checkpoint.kind})"
    return Imported(found.state, (what, *found.told))
