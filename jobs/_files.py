"""Files that a job writes beside a run, where the command line says: a path or an fsspec URL."""

from relatif.pipeline.storage.store import Store, open_store


def placed(address: str) -> tuple[Store, str]:
    """Return the folder of a file and its name there; a name alone lies in the current folder."""
    folder, slash, name = address.rpartition("/")
    return open_store(folder or slash or "."), name


def publish(address: str, data: bytes) -> str:
    """Write a file whole, and return its full address."""
    store, name = placed(address)
    store.publish_bytes(name, data)
    return store.describe(name)
