"""Outputs of some rows, stored beside the checkpoint: every process that loads the model compares its own with them.

Axes: N rows.
"""

import platform
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relatif.pipeline.auditing.outputs import difference, outputs_of
from relatif.pipeline.inputs import Inputs, from_named, named
from relatif.pipeline.storage.manifests import read_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import read_proven_tensors, write_tensors
from relatif.schemas import run_directory
from relatif.schemas.errors import ModelError, StorageError
from relatif.schemas.manifest import FileReceipt

ALIKE = 1e-5
"""Relative to the largest output. Another processor or a GPU sums float64 in another order (about 1e-13), or float32
where a model rounds to it inside (about 1e-6); another model differs by far more."""

INPUTS, OUTPUTS = "inputs", "outputs"


@dataclass(frozen=True, eq=False)
class StoredOutputs:
    """Inputs [N, ...] as they are stored in the data, and the trained model's outputs [N, ...] for them, float64."""

    inputs: Inputs
    outputs: Tensor

    def compare(self, model: nn.Module, inputs: Inputs) -> None:
        """Raise ModelError unless a model gives the stored outputs for the inputs as it reads them."""
        apart = difference(outputs_of(model, inputs).cpu(), self.outputs)
        if not apart <= ALIKE:
            raise ModelError(
                f"expected the model that was trained, found one on {platform.node()} whose outputs for "
                f"{len(self.outputs)} rows differ by {apart:.2g} of the largest from {run_directory.OUTPUTS}; keep the "
                f"task's code and the versions of its packages alike on all machines, and every random tensor of the "
                f"model in a buffer"
            )


def outputs_to_store(model: nn.Module, stored: Inputs, inputs: Inputs) -> StoredOutputs:
    """Return what is stored of a trained model: rows as they lie in the data, and its outputs for them."""
    return StoredOutputs(stored, outputs_of(model, inputs).cpu())


def write_outputs(store: Store, values: StoredOutputs) -> FileReceipt:
    """Write rows and outputs beside the checkpoint."""
    inputs = {INPUTS + name: tensor for name, tensor in named(values.inputs).items()}
    return write_tensors(store, run_directory.OUTPUTS, {**inputs, OUTPUTS: values.outputs}, {})


def read_outputs(store: Store) -> StoredOutputs | None:
    """Return what the checkpoint's proof names beside it, None where that is nothing; StorageError for damage."""
    proof = run_directory.CHECKPOINT_MANIFEST
    if run_directory.OUTPUTS not in {output.path for output in read_manifest(store, proof).outputs}:
        return None
    tensors = read_proven_tensors(store, run_directory.OUTPUTS, proof)
    inputs = {name.removeprefix(INPUTS): each for name, each in tensors.items() if name.startswith(INPUTS)}
    if not inputs or len(inputs) + 1 != len(tensors) or OUTPUTS not in tensors:
        raise StorageError(
            f"expected {INPUTS} and {OUTPUTS} in {store.describe(run_directory.OUTPUTS)}, found {sorted(tensors)}; "
            f"delete it and repeat the stage train"
        )
    return StoredOutputs(from_named(inputs), tensors[OUTPUTS].to(torch.float64))
