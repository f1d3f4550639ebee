"""A model whose outputs are not those that were stored beside the checkpoint is refused wherever it is loaded."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from relatif.pipeline.runs.source import Source, model_inputs
from relatif.pipeline.runs.stored_outputs import StoredOutputs, outputs_to_store, read_outputs, write_outputs
from relatif.pipeline.storage.tensors import write_tensors
from relatif.pipeline.tasks.task import Task, load_model
from relatif.schemas import run_directory
from relatif.schemas.errors import ModelError, StorageError
from tests.support.featured import FEATURES, source_of, task_of, write_features
from tests.support.proofs import prove_files, write_checkpoint

torch.set_num_threads(1)


class Scaled(nn.Module):
    """Multiplies features by numbers that no checkpoint has."""

    def __init__(self, scales: Tensor) -> None:
        super().__init__()
        self.scales, self.head = scales, nn.Linear(FEATURES, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(inputs * self.scales)


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return source_of(write_features(tmp_path / "data"), tmp_path / "run")


def task_with(scales: Tensor) -> Task:
    return task_of(partial(Scaled, scales))


def trained(source: Source, task: Task) -> StoredOutputs:
    """Write a checkpoint with its outputs, as the train stage does."""
    state = task.build_model().state_dict()
    checkpoint = write_tensors(source.store, run_directory.CHECKPOINT, state, {})
    (shard, *_) = source.dataset.shards("train", rows=20)
    stored = source.stored(shard).inputs[:5]
    values = outputs_to_store(load_model(task, state), stored, model_inputs(task, stored))
    written = write_outputs(source.store, values)
    prove_files(source.store, run_directory.CHECKPOINT_MANIFEST, [checkpoint, written])
    return values


def test_the_model_that_was_trained_is_loaded(source: Source) -> None:
    task = task_with(torch.ones(FEATURES))
    values = trained(source, task)
    model, found = source.load_model(task), read_outputs(source.store)
    assert found is not None
    assert torch.equal(found.inputs, values.inputs)
    assert found.inputs.dtype == torch.float32
    assert found.outputs.dtype == torch.float64
    assert torch.equal(found.outputs, model(values.inputs.double()))


def test_other_numbers_in_the_model_are_refused(source: Source) -> None:
    trained(source, task_with(torch.ones(FEATURES)))
    with pytest.raises(ModelError, match=r"the model that was trained, found one on .* differ by .* from checkpoint/"):
        source.load_model(task_with(torch.ones(FEATURES).index_fill(0, torch.tensor([3]), 1.01)))


def test_other_code_on_this_machine_is_refused(source: Source) -> None:
    task = task_with(torch.ones(FEATURES))
    trained(source, task)
    other = task_of(task.build_model, model_inputs=lambda stored: stored.float() * 1.01)
    with pytest.raises(ModelError, match="the model that was trained"):
        source.load_model(other)


def test_a_damaged_checkpoint_is_refused(source: Source) -> None:
    task = task_with(torch.ones(FEATURES))
    trained(source, task)
    write_tensors(source.store, run_directory.CHECKPOINT, task.build_model().state_dict(), {})
    with pytest.raises(StorageError, match=r"model\.safetensors has other contents than were written"):
        source.load_model(task)


def test_rounding_of_another_machine_is_not_refused(source: Source) -> None:
    trained(source, task_with(torch.ones(FEATURES)))
    source.load_model(task_with(torch.full((FEATURES,), 1 + 1e-6)))


def test_a_run_from_before_there_were_outputs_is_loaded(source: Source) -> None:
    task = task_with(torch.ones(FEATURES))
    write_checkpoint(source.store, task.build_model().state_dict())
    assert read_outputs(source.store) is None
    source.load_model(task_with(torch.zeros(FEATURES)))


def test_a_file_of_something_else_is_refused(source: Source) -> None:
    other = write_tensors(source.store, run_directory.OUTPUTS, {"other": torch.ones(2)}, {})
    prove_files(source.store, run_directory.CHECKPOINT_MANIFEST, [other])
    with pytest.raises(StorageError, match=r"expected inputs and outputs in .*outputs\.safetensors, found \['other'\]"):
        read_outputs(source.store)
