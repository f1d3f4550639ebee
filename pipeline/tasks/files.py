"""Files that a task's training reads beside the data: what they hold decides the model, so it is hashed."""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import fsspec

from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

PIECE_BYTES = 16 * 2**20


def file_hashes(addresses: Sequence[str]) -> dict[str, str]:
    """Return the SHA-256 (hex) of files by their addresses: paths of files and folders, or URLs.

    Of a folder every file below it is hashed. Relative paths begin in the current folder. Raises DataError where one is
    missing or can't be read.
    """
    hashes: dict[str, str] = {}
    for address in addresses:
        found = _hashes_of(address)
        if not found:
            raise DataError(
                f"expected the file {address} that the task's training reads (files of its Task), found none that can "
                f"be read; correct the path, which begins in the folder where the job starts"
            )
        hashes |= found
    return hashes


def require_files(found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    """Raise DataError where files are not, here, those that ``expected`` names by their hashes."""
    other = sorted(address for address in {*found, *expected} if found.get(address) != expected.get(address))
    if other:
        raise DataError(
            f"expected the files of the task's training to be the same where it is trained as where the job was "
            f"started, found others for {', '.join(other)}; give every machine the same files"
        )


def _hashes_of(address: str) -> dict[str, str]:
    if not address:
        return {}
    store = open_store(address)
    try:
        file_system, place = fsspec.core.url_to_fs(store.url)
        if not file_system.isdir(place):
            return {address: _sha256(file_system, place)} if file_system.exists(place) else {}
        found = sorted(file_system.find(place))
        return {f"{address.rstrip('/')}{path.removeprefix(place)}": _sha256(file_system, path) for path in found}
    except Exception as error:  # each file system has errors of its own
        raise DataError(
            f"expected to read {store.describe()}, which the task's training reads (files of its Task), found "
            f"{type(error).__name__}: {error}; check address and rights"
        ) from error


def _sha256(file_system: object, path: str) -> str:
    hashed = sha256()
    with file_system.open(path, "rb") as file:  # type: ignore[attr-defined]
        while piece := file.read(PIECE_BYTES):
            hashed.update(piece)
    return hashed.hexdigest()
