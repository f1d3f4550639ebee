"""Addresses: which are folders, which are slips of the keyboard, and which readers would take apart."""

import os

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.storage.addresses import refuse_partitions, resolved
from relatif.schemas.errors import ConfigurationError, DataError, without_credentials

FINE = ["runs/a:b", "a b/c#d?e%f", "data//my", "Läufe/ö", "lr=0.1/run", "sweep:1", "..", "runs/../x"]


@pytest.mark.parametrize("path", FINE)
def test_local_paths_are_taken_as_they_are(path: str) -> None:
    assert resolved(path) == os.path.abspath(path)


@pytest.mark.parametrize("url", ["memory://x", "s3://bucket/run", "zip://a::memory://b.zip", "ftp://h:21/x"])
def test_urls_are_kept(url: str) -> None:
    assert resolved(url) == url
    assert resolved(f"{url}/x//") == f"{url}/x"


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3:/bucket/run", "which is neither"),
        ("s3:\\bucket", "which is neither"),
        ("http//host", "which is neither"),
        ("anything:/x", "which is neither"),
        ("ftp:///x", "a host or bucket"),
        ("ftp://a b/x", "a host or bucket"),
        ("1://x", "a protocol before"),
        ("file://tmp/x", "three slashes"),
        ("~no_such_user/x", "a user of this machine"),
        ("a\nb", "a folder or URL"),
    ],
)
def test_slips_are_refused(address: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        resolved(address)


def test_a_file_url_may_name_this_machine() -> None:
    assert resolved("file://localhost/tmp/x") == resolved("file:///tmp/x") == "/tmp/x"


def test_a_folder_named_like_a_column_is_refused_as_readers_take_its_value(tmp_path) -> None:
    folder = tmp_path / "METHOD=kfac" / "top_k"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"method": ["influence"]}), folder / "part.parquet")

    # Why: the rows are there, and DuckDB finds another value in each of them.
    found = duckdb.sql(f"SELECT count(*) FROM '{folder}/*.parquet' WHERE method = 'influence'").fetchall()
    assert found == [(0,)]
    with pytest.raises(ConfigurationError, match=r"found 'METHOD=kfac'.*write METHOD-kfac"):
        refuse_partitions(str(folder), {"method"})
    refuse_partitions(str(folder), {"label"})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ftp://user:pa@ss@host/x, then s3://key:secret@bucket", "ftp://host/x, then s3://bucket"),
        ("https://h/x?sig=abc&part=2&X-Token=d", "https://h/x?sig=...&part=2&X-Token=..."),
        ("mail@host and a/b@c", "mail@host and a/b@c"),
    ],
)
def test_errors_show_no_credentials(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert str(DataError(text)) == shown
