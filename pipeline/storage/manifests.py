"""Manifests: the proof, written last, that a piece of work is finished. The contents of what it names decide."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

from pydantic import ValidationError

from relatif.pipeline.storage.sealed import sealed, unsealed
from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt, Manifest

HASHING_THREADS = 8
"""Files that are read and hashed at once: hashing leaves Python's lock, and reading waits for a disk or a network."""

AGAIN = (
    "run the job that made it again, such as relatif run --config ... --out OUT: what is damaged is made again, as far "
    "as what it was made from is whole"
)
"""The same for commands that only read: repeating those makes nothing again."""


def publish_manifest(store: Store, path: str, manifest: Manifest) -> FileReceipt:
    """Write the proof that ``manifest.outputs`` (paths relative to ``store``) are complete; it seals its own text."""
    return store.publish_bytes(path, sealed(manifest.model_dump(mode="json")))


def read_manifest(store: Store, path: str) -> Manifest:
    """Return a manifest; StorageError where there is none or it is damaged."""
    data = store.read_bytes(path)
    try:
        return parsed_manifest(data)
    except ValueError as error:
        raise StorageError(
            f"expected a whole manifest at {store.describe(path)}, found {_told(error)}; delete it and repeat the stage"
        ) from error


def parsed_manifest(data: bytes) -> Manifest:
    """Return the manifest that a sealed text holds; ValueError where it is none, or was changed."""
    return Manifest.model_validate(unsealed(data))


def finished(
    store: Store, path: str, digest: str, *, damaged: Callable[[str], None] = lambda _: None
) -> Manifest | None:
    """Return the manifest if the work is finished, else None.

    Finished means: the manifest is there and whole, was made for ``digest``, and the contents of every output are those
    that it names. ``damaged`` is told of each file that is not.
    """
    data = store.find_bytes(path)
    if data is None:
        return None
    try:
        manifest = parsed_manifest(data)
    except ValueError as error:
        damaged(f"{store.describe(path)} is damaged: {_told(error)}")
        return None
    if manifest.path not in (None, path):
        damaged(f"{store.describe(path)} is damaged: it is the proof that belongs at {manifest.path}")
        return None
    if manifest.digest != digest:
        return None
    found = damage(store, manifest.outputs)
    for fault in found:
        damaged(fault)
    return None if found else manifest


def damage(store: Store, receipts: Sequence[FileReceipt]) -> list[str]:
    """Return what is wrong with files that receipts name, a sentence for each: lost, cut or changed."""
    if len(receipts) == 1:
        faults = [_fault(store, receipts[0])]
    else:
        with ThreadPoolExecutor(HASHING_THREADS) as pool:
            faults = list(pool.map(lambda receipt: _fault(store, receipt), receipts))
    return [fault for fault in faults if fault is not None]


def require_whole(store: Store, receipts: Sequence[FileReceipt]) -> None:
    """Raise StorageError, naming the file, where the contents of one are not those that its receipt names."""
    found = damage(store, receipts)
    if found:
        raise _damaged(found)


def verified_bytes(store: Store, receipt: FileReceipt) -> bytes:
    """Return a file's contents, hashed as they were read; StorageError where they are not those that were written."""
    data = store.find_bytes(receipt.path)
    fault = _contradiction(store, receipt, None if data is None else (len(data), sha256(data).hexdigest()))
    if data is None or fault is not None:
        raise _damaged([fault or receipt.path])
    return data


def proven_bytes(store: Store, path: str, proof: str) -> bytes:
    """Return a file's contents as the manifest at ``proof`` names them; raises as ``verified_bytes``.

    StorageError too where the manifest is missing or damaged, or does not name the file.
    """
    outputs = {output.path: output for output in read_manifest(store, proof).outputs}
    if path not in outputs:
        raise StorageError(
            f"expected {path} among the files that {store.describe(proof)} names, found {', '.join(outputs)}; {AGAIN}"
        )
    return verified_bytes(store, outputs[path])


def _fault(store: Store, receipt: FileReceipt) -> str | None:
    return _contradiction(store, receipt, store.measure(receipt.path, about=receipt.bytes))


def _contradiction(store: Store, receipt: FileReceipt, found: tuple[int, str] | None) -> str | None:
    """Say how the size and the hash that were found contradict a receipt."""
    address = store.describe(receipt.path)
    if found is None:
        return f"{address} is missing"
    if found[0] != receipt.bytes:
        return f"{address} has {found[0]} bytes, {receipt.bytes} were written"
    return None if found[1] == receipt.sha256 else f"{address} has other contents than were written"


def _damaged(faults: Sequence[str]) -> StorageError:
    return StorageError(f"expected files as they were written, found damage: {'; '.join(faults)}; {AGAIN}")


def _told(error: ValueError) -> str:
    return f"{error.error_count()} fault(s) in it" if isinstance(error, ValidationError) else str(error)
