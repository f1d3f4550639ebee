"""Manifests: the proof, written last, that a piece of work is finished."""

from pydantic import ValidationError

from relatif.pipeline.storage.store import Store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt, Manifest


def publish_manifest(store: Store, path: str, manifest: Manifest) -> FileReceipt:
    """Write the proof that ``manifest.outputs`` (paths relative to ``store``) are complete."""
    return store.publish_bytes(path, manifest.model_dump_json(indent=1).encode() + b"\n")


def read_manifest(store: Store, path: str) -> Manifest:
    """Return a manifest; StorageError where there is none or it is damaged."""
    data = store.read_bytes(path)
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as error:
        raise StorageError(
            f"expected a manifest at {store.describe(path)}, found {error.error_count()} fault(s) in it; "
            f"delete it and repeat the stage"
        ) from error


def finished(store: Store, path: str, digest: str) -> Manifest | None:
    """Return the manifest if the work is finished, else None.

    Finished means: the manifest is there and whole, was made for ``digest``, and every output has its recorded size.
    """
    if store.size(path) is None:
        return None
    try:
        manifest = Manifest.model_validate_json(store.read_bytes(path))
    except ValidationError:
        return None
    if manifest.digest != digest:
        return None
    complete = all(store.size(output.path) == output.bytes for output in manifest.outputs)
    return manifest if complete else None
