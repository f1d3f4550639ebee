"""Where the files of a checkpoint lie: one file, the shards that an index names, or a model folder of Hugging Face."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError

SETTING = "model.checkpoint"
CONFIG = "config.json"
INDEX_END = ".index.json"

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""What a model folder calls its weights, in the order in which they are looked for."""

ADAPTER = ("adapter_model.safetensors", "adapter_model.bin")
ENDINGS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
"""Of a folder that names its weights otherwise: one file that ends so."""

LISTED = 6


@dataclass(frozen=True)
class Place:
    """A folder with the files of a checkpoint: ``weights`` in order, ``index`` and ``config`` where there are any.

    ``named`` is the shard of each tensor as the index tells it.
    """

    folder: Store
    weights: tuple[str, ...]
    index: str | None = None
    config: str | None = None
    named: tuple[tuple[str, str], ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """All files that decide the model, in order."""
        return (*self.weights, *(path for path in (self.index, self.config) if path is not None))

    def describe(self) -> str:
        """Return the address for messages."""
        return self.folder.describe(self.index or self.weights[0])


def locate(address: str) -> Place:
    """Return the files of the checkpoint at an address, a path or URL of a file or folder.

    Raises DataError where there is none, or several from which one has to be chosen.
    """
    store = open_store(address)
    if store.size("") is not None:
        above, _, name = store.url.rpartition("/")
        return _indexed(Store(above or "/"), name)
    names = store.list("")
    if not names and not store.exists(""):
        raise DataError(
            f"expected a checkpoint at {SETTING} = {store.describe()}, found nothing there; correct the path or URL (a "
            f"relative path begins in the folder where the job starts)"
        )
    place = _indexed(store, _weights_in(store, names))
    config = CONFIG if CONFIG in names else None
    return Place(place.folder, place.weights, place.index, config, place.named)


def fingerprints(address: str) -> dict[str, str]:
    """Return the SHA-256 (hex) of each file of a checkpoint by its address; raises as ``locate``."""
    place = locate(address)
    found = {}
    for path in place.files:
        measured = place.folder.measure(path, about=place.folder.size(path) or 0)
        if measured is None:
            raise _missing(place.folder, path, place.index or path)
        found[place.folder.describe(path)] = measured[1]
    return found


def _weights_in(store: Store, names: Sequence[str]) -> str:
    """Return the file of weights, or their index, in a folder."""
    for name in WEIGHTS:
        if name in names:
            return name
    adapter = next((name for name in ADAPTER if name in names), None)
    if adapter is not None:
        raise DataError(
            f"expected a whole model in {SETTING} = {store.describe()}, found the adapter {adapter} alone; load it "
            f"onto its base model and save the state of both, torch.save(model.state_dict(), 'model.pt')"
        )
    found = [name for name in names if name.endswith(ENDINGS)]
    if len(found) == 1:
        return found[0]
    what = f"several, {', '.join(found[:LISTED])}" if found else f"only {', '.join(names[:LISTED]) or 'folders'}"
    raise DataError(
        f"expected {' or '.join(WEIGHTS[::2])}, or one file that ends in {', '.join(ENDINGS)}, in {SETTING} = "
        f"{store.describe()}, found {what}; name the file itself"
    )


def _indexed(folder: Store, name: str) -> Place:
    """Return the place of a file of weights, or of the shards that it names if it is an index."""
    if not name.endswith(INDEX_END):
        return Place(folder, (name,))
    try:
        shards = json.loads(folder.read_bytes(name))["weight_map"]
        named = tuple((str(tensor), str(shard)) for tensor, shard in shards.items())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"expected an index of shards with a weight_map at {folder.describe(name)}, found {type(error).__name__}: "
            f"{error}; fetch the file again"
        ) from error
    weights = tuple(sorted({shard for _, shard in named}))
    for path in weights or (name,):
        if not weights or folder.size(path) is None:
            raise _missing(folder, path, name)
    return Place(folder, weights, index=name, named=named)


def _missing(folder: Store, path: str, named_by: str) -> DataError:
    return DataError(
        f"expected the file {folder.describe(path)}, which {named_by} names, found none; fetch all of the checkpoint"
    )
