"""Proofs of files that a test wrote itself, as stages leave them."""

from collections.abc import Iterable, Mapping

from torch import Tensor

from relatif.pipeline.storage.manifests import publish_manifest
from relatif.pipeline.storage.store import Store
from relatif.pipeline.storage.tensors import write_tensors
from relatif.schemas import run_directory
from relatif.schemas.manifest import FileReceipt, Manifest


def prove_files(store: Store, path: str, outputs: Iterable[FileReceipt]) -> None:
    """Publish a manifest that names some files."""
    publish_manifest(store, path, Manifest(work="test", digest="test", outputs=tuple(outputs), seconds=0.0))


def write_checkpoint(store: Store, state: Mapping[str, Tensor]) -> None:
    """Leave a model as the train stage does."""
    prove_files(store, run_directory.CHECKPOINT_MANIFEST, [write_tensors(store, run_directory.CHECKPOINT, state, {})])
