"""A data set is written once; its sources are proved by their contents."""

from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from relatif.pipeline.datasets.chunks import Chunk
from relatif.pipeline.datasets.description import InputDescription, Provenance, Subject
from relatif.pipeline.datasets.preparing import Published, bytes_receipt, file_receipt, prepare_once
from relatif.pipeline.storage.store import open_store
from relatif.schemas.errors import DataError

CHUNK = Chunk(np.arange(12, dtype=np.uint8).reshape(6, 2), np.zeros(6, np.int64))


def subject(name: str = "made-up", sources: tuple[bytes, ...] = ()) -> Subject:
    return Subject(
        name=name,
        meaning="numbers",
        input=InputDescription(column="image", dtype="uint8", shape=(2,)),
        class_names=("a",),
        provenance=Provenance(
            origin="", licence="", licence_url="", sources=tuple(bytes_receipt("a", data) for data in sources)
        ),
    )


def published(chunks: Iterable[Chunk], what: Subject | None = None, **options: int) -> Published:
    return Published(what or subject(), {"train": chunks}, {"train": 6}, **options)


def never() -> Iterator[Chunk]:
    raise AssertionError("a chunk was asked for")
    yield CHUNK


def test_receipts_of_bytes_and_files_agree(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(3 * 2**20 + 17)
    (tmp_path / "a.bin").write_bytes(data)
    receipt = file_receipt(open_store(tmp_path), "a.bin")
    assert receipt == bytes_receipt("a.bin", data)
    assert (receipt.bytes, receipt.sha256) == (len(data), sha256(data).hexdigest())


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    out = open_store(tmp_path)
    first = prepare_once(out, published([CHUNK], rows_per_group=4))
    assert first.description.splits["train"].files[0].row_groups == (4, 2)
    assert prepare_once(out, published(never())) == first


def test_other_sources_or_a_missing_file_make_it_again(tmp_path: Path) -> None:
    out = open_store(tmp_path)
    prepare_once(out, published([CHUNK]))
    changed = prepare_once(out, published([CHUNK.rows(0, 3)], subject(sources=(b"x",))))
    assert changed.rows("train") == 3
    out.delete("train/part-00000.parquet")
    assert prepare_once(out, published([CHUNK], subject(sources=(b"x",)))).rows("train") == 6


def test_another_data_set_is_left_alone(tmp_path: Path) -> None:
    prepare_once(open_store(tmp_path), published([CHUNK]))
    with pytest.raises(DataError, match=r"no data set or other in .*, found made-up; choose another folder"):
        prepare_once(open_store(tmp_path), published(never(), subject("other")))
