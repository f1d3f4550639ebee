"""The tensors of a checkpoint by their names, from safetensors and from what ``torch.save`` wrote. No code is run."""

import io
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import Tensor

from relatif.pipeline.calls import described
from relatif.pipeline.checkpoints.places import Place, locate
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import DataError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts put the state, beside what else they save."""

SAVE = "torch.save(model.state_dict(), 'model.pt')"
AGAIN = "fetch or save the file again"

_ZIP, _PICKLE, _LENGTH = b"PK\x03\x04", b"\x80", 8
_OTHERS = {
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "fetch it with git lfs pull"),
    b"\x89HDF": ("an HDF5 file, as Keras writes", "convert the weights to PyTorch's names, save them as safetensors"),
    b"\x93NUMPY": ("an array of NumPy", "save a dict of tensors with torch.save"),
    b"<": ("a page of HTML or XML", "fetch the file itself, not the page that shows it"),
}
_LARGEST_HEADER = 100 * 2**20
_GLOBAL = re.compile(r"(?:GLOBAL|class|global) ([\w.]+)")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Tensors by name, on the CPU, as they were stored; ``kind`` and ``address`` tell what they were read from."""

    tensors: Mapping[str, Tensor]
    kind: str
    address: str


def read_checkpoint(address: str) -> Checkpoint:
    """Return the tensors at an address, a path or URL of a file or folder.

    Raises DataError, with what to do, for what is no checkpoint, and for pickles that hold more than plain data: a
    whole module, a TorchScript archive, an optimizer with objects of its own.
    """
    place = locate(address)
    parts = [_read(place.folder, path) for path in place.weights]
    tensors: dict[str, Tensor] = {}
    for path, (found, _) in zip(place.weights, parts, strict=True):
        twice = sorted(set(found) & set(tensors))
        if twice:
            raise DataError(
                f"expected each tensor in one shard, found {twice[0]} in {place.folder.describe(path)} and in an "
                f"earlier one; fetch the checkpoint again"
            )
        tensors |= found
    lost = [tensor for tensor, _ in place.named if tensor not in tensors]
    if lost:
        raise DataError(
            f"expected {len(place.named)} tensors in the shards that {place.describe()} names, found {lost[0]} in "
            f"none of them; fetch the checkpoint again"
        )
    if not tensors:
        raise DataError(f"expected tensors in {place.describe()}, found none; save the model's state again: {SAVE}")
    return Checkpoint(tensors, _kind(place, parts[0][1]), place.describe())


def _kind(place: Place, kind: str) -> str:
    return kind if place.index is None else f"{kind} in {len(place.weights)} shard(s)"


def _read(folder: Store, path: str) -> tuple[dict[str, Tensor], str]:
    with folder.open(path) as file:
        head = file.read(64)
    if head.startswith(_ZIP):
        return _pickled(folder, path, zipped=True)
    if 2 <= int.from_bytes(head[:_LENGTH], "little") <= _LARGEST_HEADER and head[_LENGTH : _LENGTH + 1] == b"{":
        return _safetensors(folder, path), "safetensors"
    if head.startswith(_PICKLE):
        return _pickled(folder, path, zipped=False)
    other = (f"a file that begins with {head[:8]!r}", "name the file of weights")
    raise _no_checkpoint(
        folder, path, *next((told for start, told in _OTHERS.items() if head.startswith(start)), other)
    )


def _safetensors(folder: Store, path: str) -> dict[str, Tensor]:
    try:
        # A local file is mapped, so that a large one is not in memory twice.
        found = load_file(f"{folder.url}/{path}") if folder.is_local else load(folder.read_bytes(path))
    except (SafetensorError, ValueError, KeyError, RuntimeError, OSError) as error:
        raise _no_checkpoint(folder, path, f"damaged safetensors ({error})", AGAIN) from error
    return dict(found)


def _pickled(folder: Store, path: str, *, zipped: bool) -> tuple[dict[str, Tensor], str]:
    place: Any = f"{folder.url}/{path}" if folder.is_local else io.BytesIO(folder.read_bytes(path))
    if zipped:
        _require_state(folder, path, place)
    try:
        # Without code: what needs more than tensors and plain values is refused.
        loaded = torch.load(place, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(folder, path, error) from error
    except Exception as error:  # damage shows in many ways
        found = " ".join(str(error).split())[:200]
        raise _no_checkpoint(folder, path, f"a damaged file ({type(error).__name__}: {found})", AGAIN) from error
    return _state(folder, path, loaded)


def _require_state(folder: Store, path: str, place: Any) -> None:
    """Refuse an archive that torch.load would not read as a state, with what it is."""
    try:
        with zipfile.ZipFile(place) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise _no_checkpoint(folder, path, f"a damaged file ({error})", AGAIN) from error
    if isinstance(place, io.BytesIO):
        place.seek(0)
    if any(name.endswith("/constants.pkl") for name in names):
        advice = f"save its state, torch.save(torch.jit.load({path!r}).state_dict(), 'model.pt')"
        raise _no_checkpoint(folder, path, "a TorchScript archive, which holds code", advice)
    if not any(name.endswith("data.pkl") for name in names):
        found = f"an archive of {', '.join(names[:3])}"
        raise _no_checkpoint(folder, path, found, f"unpack it, or save the model's state, {SAVE}")


def _refused(folder: Store, path: str, error: Exception) -> DataError:
    named = _GLOBAL.search(str(error).partition("WeightsUnpickler error")[2] or str(error))
    what = f"one that needs the code of {named[1]}" if named else " ".join(str(error).split())[:200]
    return _no_checkpoint(
        folder,
        path,
        f"a pickle of more than tensors, {what}, as where a whole module or arguments were saved",
        f"load it where it was made and save its state alone, {SAVE}",
    )


def _state(folder: Store, path: str, loaded: object) -> tuple[dict[str, Tensor], str]:
    """Return the state in what was loaded: itself, or what lies under one of the usual keys."""
    if _is_state(loaded):
        return dict(loaded), "a state dict"  # type: ignore[call-overload]
    if not isinstance(loaded, Mapping):
        raise _no_checkpoint(folder, path, described(loaded), f"save the tensors by their names, {SAVE}")
    found = [key for key in WRAPPERS if _is_state(loaded.get(key))]
    # Such as averaged weights: which of them made the predictions nobody else knows.
    like = [_shapes(loaded[key]) for key in found[:1]]
    found += [key for key, value in loaded.items() if key not in found and _is_state(value) and _shapes(value) in like]
    if len(found) == 1:
        return dict(loaded[found[0]]), f"a state dict under {found[0]!r}"
    if found:
        several = f"several states, under {' and '.join(map(str, found))}"
        raise _no_checkpoint(folder, path, several, "save the one whose predictions are explained alone")
    keys = ", ".join(repr(key) for key in list(loaded)[:6]) or "nothing"
    what = f"a dict of {keys} that is no state dict and has none under {', '.join(WRAPPERS)}"
    raise _no_checkpoint(folder, path, what, f"save the state alone, {SAVE}")


def _is_state(value: object) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())
    )


def _shapes(state: Mapping[str, Tensor]) -> list[tuple[int, ...]]:
    return sorted(tuple(value.shape) for value in state.values())


def _no_checkpoint(folder: Store, path: str, found: str, advice: str) -> DataError:
    return DataError(f"expected a checkpoint of tensors by name at {folder.describe(path)}, found {found}; {advice}")
