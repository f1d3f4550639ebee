"""Addresses of folders, as users write them: local paths and URLs. What makes no sense is refused before any use."""

import os
import re
from collections.abc import Collection
from urllib.parse import urlsplit

import fsspec

from relatif.schemas.errors import ConfigurationError, StorageError

WITH_HOST = frozenset(
    {"abfs", "abfss", "adl", "az", "ftp", "gcs", "gs", "hf", "http", "https", "oci", "oss", "s3", "s3a", "sftp", "smb"}
    | {"ssh", "webdav", "webhdfs"}
)
"""Protocols whose address begins with a host or a bucket."""

SLIPS = WITH_HOST | {"file", "hdfs"}
"""Protocols that are no usual names of folders: with one slash or no colon they are slips of the keyboard."""

_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
_LIKE_A_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(?::[/\\]*|;//|//)")


def resolved(text: str) -> str:
    """Return a local path made absolute, or a URL without slashes at its end.

    Raises ConfigurationError for an empty text, an unknown user (``~name``), a URL without host or bucket, with a port
    that is none, or of a protocol that is unknown or whose package is not installed, and for what is nearly a URL.
    """
    if not text.strip() or not text.isprintable():
        raise ConfigurationError(f"expected a folder or URL, found {text!r}; name a folder")
    for prefix in ("file://", "local://"):
        text = _local(text, prefix)
    if "://" not in text and "::" not in text:
        _refuse_near_urls(text)
        return os.path.abspath(_at_home(text))
    text = text if text.endswith("://") else text.rstrip("/")
    for link in text.split("::"):
        _check_link(text, link)
    return text


def size_untold(address: str) -> StorageError:
    """Return the error for a file on a server that does not tell how large it is: reading needs that."""
    return StorageError(
        f"expected a server that tells the size of {address} (Content-Length), found none told; fetch the file and "
        f"name its copy"
    )


def unknown_protocol(address: str, error: Exception) -> ConfigurationError:
    """Return the error of an address whose file system is not known, or does not take it."""
    return ConfigurationError(
        f"expected a local path or a URL whose file system is installed, found {address} ({error}); "
        f"install its fsspec package (s3fs for s3://, gcsfs for gs://, adlfs for abfs://) or correct the address"
    )


def _local(text: str, prefix: str) -> str:
    """Return the path of a ``file://`` URL, any other text unchanged."""
    if not text.startswith(prefix):
        return text
    path = text.removeprefix(prefix)
    host, _, rest = path.partition("/")
    if host == "localhost":
        return f"/{rest}"
    if host not in ("", ".", "..", "~"):
        raise ConfigurationError(
            f"expected three slashes before an absolute path, found {text}, whose host would be {host!r}; write "
            f"{prefix}/{path} or the path alone"
        )
    return path


def _at_home(text: str) -> str:
    if not text.startswith("~"):
        return text
    path, home = os.path.expanduser(text), os.path.expanduser(text.partition("/")[0])
    if not os.path.isdir(home):
        raise ConfigurationError(
            f"expected a user of this machine with a folder of their own in {text}, found no folder {home}; correct "
            f"the name, or write ./{text} for a folder of that name"
        )
    return path


def _refuse_near_urls(text: str) -> None:
    near = _LIKE_A_URL.match(text)
    if near is None:
        return
    if near[1].lower() in SLIPS or text[near.end(1) :].startswith((":/", ";//")):
        raise ConfigurationError(
            f"expected a local path or a URL such as s3://bucket/run, found {text}, which is neither; write "
            f"'://' after a protocol, or ./{text} for a folder of that name"
        )


def _check_link(text: str, link: str) -> None:
    """Refuse one part of a (chained) URL that can't name a folder."""
    protocol, separator, rest = link.partition("://")
    if not _PROTOCOL.fullmatch(protocol):
        raise ConfigurationError(
            f"expected a protocol before '://' in {text}, found {protocol!r}; write for example s3://bucket/run"
        )
    try:
        fsspec.get_filesystem_class(protocol)
        parts = urlsplit(f"//{rest}")
        port = parts.port
    except (ImportError, ValueError) as error:
        raise unknown_protocol(text, error) from error
    if not separator or protocol not in WITH_HOST:
        return
    if not parts.hostname or port == 0 or " " in parts.netloc or parts.username == "":
        raise ConfigurationError(
            f"expected a host or bucket after {protocol}:// in {text}, found {parts.netloc!r}; write for example "
            f"{protocol}://bucket/run"
        )


def refuse_partitions(address: str, columns: Collection[str]) -> None:
    """Raise ConfigurationError for a folder ``column=value`` on the way to tables that have a column of that name.

    Readers of Parquet (DuckDB, Arrow) take such a name for the value of the column in every row below it.
    """
    known = {column.lower() for column in columns}
    for folder in address.split("/"):
        key, separator, value = folder.partition("=")
        if separator and key.lower() in known:
            raise ConfigurationError(
                f"expected --out without a folder that is named like a column of the tables, found {folder!r} in "
                f"{address}, from which readers of Parquet take {value!r} for {key} in every row; write {key}-{value}"
            )
