"""Named tensors in safetensors files."""

import json
from collections.abc import Mapping

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

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
    # Copies, because safetensors refuses tensors that share memory.
    owned = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()
    }
    return store.publish_bytes(path, _with_metadata(save(owned), metadata))


def read_tensors(store: Store, path: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file, on the CPU, by name in order; StorageError where it is missing or damaged."""
    data = store.read_bytes(path)
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
