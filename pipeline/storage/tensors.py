"""Named tensors in safetensors files."""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from relatif.pipeline.storage.manifests import proven_bytes, verified_bytes
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt

_LENGTH_BYTES = 8


def write_tensors(
    store: Store, path: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> FileReceipt:
    """Publish tensors (on any device, of any layout in memory) under their names, with text metadata.

    Equal tensors and metadata give equal bytes.
    """
    return store.publish_bytes(path, tensor_bytes(tensors, metadata))


def tensor_bytes(tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return the file that ``write_tensors`` publishes."""
    # Copies, because safetensors refuses tensors that share memory.
    owned = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return _with_metadata(save(owned), metadata)


def read_tensors(store: Store, path: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, on the CPU, by name in order; StorageError where it is missing or damaged."""
    return _tensors(store, path, store.read_bytes(path))


def read_proven_tensors(store: Store, path: str, proof: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file as ``read_tensors`` does, of the very bytes that the manifest at ``proof`` names.

    Raises StorageError where the file, or the manifest, is missing or damaged.
    """
    return _tensors(store, path, proven_bytes(store, path, proof))


def read_written_tensors(store: Store, receipt: FileReceipt) -> dict[str, torch.Tensor]:
    """Return the tensors of the very bytes that a receipt names; StorageError where the file is missing or another."""
    return _tensors(store, receipt.path, verified_bytes(store, receipt))


def _tensors(store: Store, path: str, data: bytes) -> dict[str, torch.Tensor]:
    try:
        # safetensors gives them in another order in every process.
        return dict(sorted(load(data).items()))
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise _damaged(store, path, str(error)) from error


def _with_metadata(data: bytes, metadata: Mapping[str, str]) -> bytes:
    # safetensors itself writes metadata in a random order, but equal results must give equal files.
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    tensors = json.loads(data[_LENGTH_BYTES:start])
    header = json.dumps({"__metadata__": dict(sorted(metadata.items())), **tensors}, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _LENGTH_BYTES)  # the tensors begin at a multiple of 8
    return len(header).to_bytes(_LENGTH_BYTES, "little") + header + data[start:]


def _damaged(store: Store, path: str, found: str) -> StorageError:
    return StorageError(
        f"expected a safetensors file at {store.describe(path)}, found a damaged one ({found}); "
        f"delete it and repeat the stage that writes it"
    )
