"""Errors, sorted by who can act on them.

Every message says what was expected, what was found and what to do. None shows a password or a key of an address.
"""

import re

_USER = re.compile(r"(?<=://)[^/\s'\"]*@")
_SECRET = re.compile(r"(?<=[?&])([^=&\s]*(?:key|password|secret|sig|token)[^=&\s]*)=[^&\s'\"]*", re.IGNORECASE)


def without_credentials(text: str) -> str:
    """Return a text in which no URL shows a user, a password or a key.

    >>> without_credentials("no answer from ftp://name:password@host/run?token=1234")
    'no answer from ftp://host/run?token=...'
    """
    return _SECRET.sub(r"\1=...", _USER.sub("", text))


class RelatifError(Exception):
    """Base of all errors that this project raises on purpose; its message shows no credentials."""

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class ConfigurationError(RelatifError):
    """A setting is unknown, out of range, or contradicts another: correct the configuration."""


class DataError(RelatifError):
    """Input data is missing, truncated, mislabelled or inconsistent: correct the data or its address."""


class ChangedRunError(RelatifError):
    """A run directory was made with other settings, data or code: choose another one, or set them back."""


class MissingStageError(RelatifError):
    """A stage needs the result of an earlier one that is not there: run the earlier stage first."""


class ModelError(RelatifError):
    """The model has a part that no rule covers, or covers wrongly: change the task."""


class TaskError(RelatifError):
    """A function of the user's own task raised an error or returned what it must not: correct that function."""


class NumericalError(RelatifError):
    """A computation diverged, did not converge, or met a value that is not finite: change model or settings."""


class ClaimError(RelatifError):
    """Another run writes to the same directory, or took it over: wait for it, stop it, or choose another one."""


class StorageError(RelatifError):
    """A file can't be read or written: look at the address, the credentials and the disk."""


class ClusterError(RelatifError):
    """Ray can't give what was asked for, or a worker was lost too often: look at the cluster and its settings."""
