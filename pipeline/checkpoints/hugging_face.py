"""What a model folder of Hugging Face says of its model: ``config.json``, read without the package ``transformers``."""

import json
from typing import Any

from relatif.pipeline.checkpoints.places import CONFIG, SETTING
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

UNNAMED = "LABEL_"
"""As classes are called where nobody named them."""


def model_config(address: str) -> dict[str, Any] | None:
    """Return the contents of a model folder's ``config.json``; None where there is none. DataError for damage."""
    return folder_json(address, CONFIG, f"a model ({SETTING})")


def folder_json(address: str, name: str, what: str) -> dict[str, Any] | None:
    """Return the configuration ``name`` of ``what`` in a folder; None where there is none. DataError for damage."""
    store = open_store(address)
    data = None if store.size("") is not None else store.find_bytes(name)
    if data is None:
        return None
    try:
        found = json.loads(data)
    except ValueError as error:
        raise DataError(
            f"expected the configuration of {what} in {store.describe(name)}, found no JSON ({error}); fetch that "
            f"folder again"
        ) from error
    return dict(found) if isinstance(found, dict) else None


def label_names(address: str) -> tuple[str, ...] | None:
    """Return the names of the classes in the order of their numbers, ``id2label`` of a model folder.

    None where the folder names none. DataError where numbers are missing, or a name stands twice.
    """
    found = (model_config(address) or {}).get("id2label")
    if not isinstance(found, dict) or not found or all(str(name).startswith(UNNAMED) for name in found.values()):
        return None
    names = tuple(str(found.get(str(number))) for number in range(len(found)))
    if set(found) != {str(number) for number in range(len(found))} or len(set(names)) < len(names):
        raise DataError(
            f"expected id2label in {CONFIG} of {address} to give each number from 0 a name of its own, found {found}; "
            f"correct it, or name the classes by data.class_names"
        )
    return names
