"""What workers load from storage: the task, its trained model, and shards as they are stored."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.outputs import check_row_reading
from relatif.pipeline.calls import is_ours, read_inputs
from relatif.pipeline.checkpoints.places import fingerprints
from relatif.pipeline.curvature.examples import Examples
from relatif.pipeline.datasets.shards import PreparedDataset, Shard, StoredExamples, read_shard
from relatif.pipeline.devices import CPU
from relatif.pipeline.inputs import Inputs, moved, rows, sum_of_squares
from relatif.pipeline.runs.stored_outputs import read_outputs
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors
from relatif.pipeline.tasks.files import file_hashes
from relatif.pipeline.tasks.named import NOTHING_NAMED, NamedModel
from relatif.pipeline.tasks.task import Task, load_model, load_task
from relatif.schemas import run_directory
from relatif.schemas.errors import DataError
from relatif.schemas.model_config import ModelConfig

CAST = frozenset((torch.uint8, torch.float32))
"""Stored types of which a single tensor is read as float64, whatever ``model_inputs`` makes of it."""


@dataclass(frozen=True)
class Source:
    """Addresses from which a worker loads everything: it travels instead of data and models."""

    store: Store
    data: Store
    dataset: PreparedDataset
    task: str
    layers: tuple[str, ...] | None = None
    model: ModelConfig = NOTHING_NAMED.config
    exclude: tuple[str, ...] = ()

    def load_task(self) -> Task:
        """Return the task; DataError where the data does not fit its likelihood.

        A task made for the data's own classes also learns merged ones: some of its outputs belong to no label then.
        """
        published, target = len(self.dataset.description.class_names), self.dataset.description.target
        columns = None if target is None or len(target.shape) > 1 else target.numbers
        task = load_task(self.task, NamedModel(self.model, published or None, columns))
        expected = task.likelihood.expected_of_data((published, len(self.dataset.class_names)))
        if expected is not None:
            raise DataError(
                f"expected {expected} for task {self.task!r}, found {self.dataset.name} with "
                f"{published or 'no'} classes; change data.source or task"
            )
        return task

    def file_hashes(self, task: Task) -> dict[str, str]:
        """Return the SHA-256 of the files that decide the model beside data and settings, by address.

        These are the files of the task and those of ``model.checkpoint``. DataError where one is missing.
        """
        given = {} if self.model.checkpoint is None else fingerprints(self.model.checkpoint)
        return file_hashes(task.files) | given

    def load_model(self, task: Task, device: torch.device | str = CPU) -> nn.Module:
        """Return the trained model, float64, in evaluation mode.

        Raises ModelError where the checkpoint is another model's, and where the outputs stored beside it are not those
        of the model here: other code, other versions, or random numbers that no checkpoint has. Raises StorageError
        where the checkpoint is not whole.
        """
        state = read_proven_tensors(self.store, run_directory.CHECKPOINT, run_directory.CHECKPOINT_MANIFEST)
        model = load_model(task, state).to(device)
        recorded = read_outputs(self.store)
        if recorded is not None:
            recorded.compare(model, model_inputs(task, recorded.inputs, device))
        return model

    def stored(self, shard: Shard) -> StoredExamples:
        """Return a shard's examples as they are stored."""
        return read_shard(self.data, self.dataset, shard)

    def examples(self, task: Task, shard: Shard, device: torch.device | str = CPU) -> Examples:
        """Return a shard's inputs as the model reads them, float64, with their targets; raises as ``read``."""
        return self.read(task, shard, self.stored(shard), device)

    def read(self, task: Task, shard: Shard, stored: StoredExamples, device: torch.device | str = CPU) -> Examples:
        """Return the stored examples of a shard as the model reads them, float64, with their targets.

        Raises DataError, naming the row, for an input with which the model's arithmetic overflows, and ModelError for
        one that ``model_inputs`` reads otherwise without the rest of the shard.
        """

        def one(chosen: slice) -> Inputs:
            return model_inputs(task, rows(stored.inputs, chosen), device, first_index=shard.start)

        examples = model_examples(task, stored.inputs, stored.labels, shard.start, device)
        require_arithmetic(examples, f"{self.dataset.name}/{shard.split}")
        if len(examples) and not is_ours(task.model_inputs):
            check_row_reading(examples.inputs, one, shard.start, shard.split)
        return examples


def model_examples(
    task: Task, stored: Inputs, targets: Tensor, first_index: int, device: torch.device | str = CPU
) -> Examples:
    """Return stored inputs [N, ...] as the model reads them, float64, with their targets, on a device."""
    inputs = model_inputs(task, stored, device, first_index=first_index)
    return Examples(inputs, targets.to(device), first_index)


def model_inputs(
    task: Task, stored: Inputs, device: torch.device | str = CPU, *, first_index: int | None = None
) -> Inputs:
    """Return stored inputs [N, ...], rows from ``first_index`` on, as the model reads them, float64, on a device.

    Whole numbers of 32 and 64 bits and booleans stay as they are, but for the one tensor that ``model_inputs`` makes of
    stored bytes or float32: that is cast, and a model which reads codes turns them into whole numbers itself.
    """
    read = read_inputs(task.model_inputs, stored, first_index=first_index)
    if isinstance(read, Tensor) and isinstance(stored, Tensor) and stored.dtype in CAST:
        return read.to(device).double()
    return moved(read, device, torch.float64)


def require_arithmetic(examples: Examples, where: str) -> None:
    """Raise DataError, naming the row, for model inputs that are not finite or whose squares overflow float32.

    Recipes train in float32, and distances between inputs are sums of squares.
    """
    squares = sum_of_squares(examples.inputs)
    wrong = ~(squares <= torch.finfo(torch.float32).max)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0])
        raise DataError(
            f"expected finite values of the task's model_inputs, with finite squares in float32, found a sum of "
            f"squares of {float(squares[row]):g} in row {examples.first_index + row} of {where}; correct the value, "
            f"drop the row, or scale in model_inputs"
        )
