"""Files that a job writes where the command line says."""

from pathlib import Path

import pytest

from relatif.jobs._files import placed, publish


def test_a_name_alone_lies_here_and_a_path_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for address, file in (("a.txt", "a.txt"), ("sub/b.txt", "sub/b.txt"), (f"{tmp_path}/c.txt", "c.txt")):
        assert publish(address, b"written") == str(tmp_path / file)
        assert (tmp_path / file).read_bytes() == b"written"


def test_a_file_at_the_root_is_no_file_of_the_current_folder() -> None:
    store, name = placed("/d.txt")
    assert (store.describe(name), name) == ("/d.txt", "d.txt")
