"""Tables come back as they were written, say what they are, and refuse what does not fit."""

import io
from pathlib import Path

import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from relatif.pipeline.storage.parquet import TableWriter, iter_batches, read_table, table_metadata, write_table
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import DataError, MissingStageError, StorageError
from relatif.schemas.tables import SCORES, TOP_K

DIRECTORY = "tables/top_k"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path)


def top_k(rows: int, start: int = 0) -> pa.Table:
    return pa.table(
        {
            "method": ["influence", "l_relatif"] * (rows // 2),
            "test_index": range(start, start + rows),
            "rank": [1] * rows,
            "train_index": range(rows),
            "score": [0.5] * rows,
            "train_id": [None] * rows,
        },
        TOP_K.schema,
    )


def test_a_table_comes_back_in_the_order_of_its_files(store: Store) -> None:
    second = write_table(store, f"{DIRECTORY}/part-00001.parquet", top_k(4, 10), TOP_K, {})
    write_table(store, f"{DIRECTORY}/part-00000.parquet", top_k(10), TOP_K, {})
    assert second.rows == 4
    table = read_table(store, DIRECTORY)
    assert table.schema.equals(TOP_K.schema)
    assert table["test_index"].to_pylist() == list(range(14))
    assert read_table(store, DIRECTORY, ["rank", "method"]).column_names == ["rank", "method"]


def test_another_library_reads_the_file(store: Store, tmp_path: Path) -> None:
    write_table(store, f"{DIRECTORY}/part-00000.parquet", top_k(10), TOP_K, {})
    frame = polars.read_parquet(tmp_path / DIRECTORY / "*.parquet")
    assert frame["method"].to_list() == ["influence", "l_relatif"] * 5
    assert frame["test_index"].to_list() == list(range(10))


def test_each_write_makes_row_groups_within_the_limit(store: Store, tmp_path: Path) -> None:
    with TableWriter(store, "t/a.parquet", TOP_K, {}, row_group_rows=4) as writer:
        writer.write(top_k(10))
        writer.write(top_k(2, 10).to_batches()[0])
    metadata = pq.read_metadata(tmp_path / "t/a.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 2, 2]
    assert writer.receipt.rows == 12
    assert writer.receipt.bytes == (tmp_path / "t/a.parquet").stat().st_size


def test_batches_are_the_table_in_pieces(store: Store) -> None:
    with TableWriter(store, f"{DIRECTORY}/a.parquet", TOP_K, {}, row_group_rows=4) as writer:
        writer.write(top_k(10))
    write_table(store, f"{DIRECTORY}/b.parquet", top_k(6, 10), TOP_K, {})
    batches = list(iter_batches(store, DIRECTORY, ["test_index", "score"], batch_rows=3))
    assert max(batch.num_rows for batch in batches) <= 3
    assert pa.Table.from_batches(batches).equals(read_table(store, DIRECTORY, ["test_index", "score"]))


def test_a_file_says_what_it_is(store: Store) -> None:
    write_table(store, f"{DIRECTORY}/a.parquet", top_k(2), TOP_K, {"damping": "0.001"})
    metadata = table_metadata(store, DIRECTORY)
    assert metadata["damping"] == "0.001"
    assert metadata["table"] == "top_k"
    assert metadata["schema_version"] == "1"
    meanings = [field.metadata[b"meaning"] for field in read_table(store, DIRECTORY).schema]
    assert b"row of the test set" in meanings[1]


def test_the_same_rows_give_the_same_bytes(store: Store) -> None:
    receipts = [write_table(store, f"t/{i}.parquet", top_k(10), TOP_K, {"b": "1", "a": "2"}) for i in range(2)]
    assert receipts[0].sha256 == receipts[1].sha256


def test_scores_are_neither_compressed_nor_dictionary_encoded(store: Store, tmp_path: Path) -> None:
    rows = pa.table({"test_index": [0, 1], "train_start": [0, 0], "influence": [[0.25, 0.5], [1.0, -2.0]]})
    write_table(store, "s/a.parquet", rows, SCORES, {})
    columns = pq.read_metadata(tmp_path / "s/a.parquet").row_group(0)
    kinds = {columns.column(i).path_in_schema: columns.column(i) for i in range(3)}
    assert kinds["influence.list.element"].compression == "UNCOMPRESSED"
    assert not kinds["influence.list.element"].has_dictionary_page
    assert kinds["test_index"].compression == "ZSTD"
    assert read_table(store, "s")["influence"].to_pylist() == [[0.25, 0.5], [1.0, -2.0]]


def test_rows_that_do_not_fit_are_refused_and_nothing_is_published(store: Store) -> None:
    wrong = {
        "columns": top_k(2).drop_columns(["score"]),
        "train_index, score": top_k(2).select(["method", "test_index", "rank", "score", "train_index"]),
        "null": top_k(2).set_column(4, "score", pa.array([0.5, None], pa.float32())),
        "top_k, found": top_k(2).set_column(2, "rank", pa.array([1, 2**40])),
    }
    for message, table in wrong.items():
        with pytest.raises(DataError, match=message):
            write_table(store, f"{DIRECTORY}/a.parquet", table, TOP_K, {})
    assert store.list(DIRECTORY) == []


def test_an_exception_in_the_block_publishes_nothing(store: Store, tmp_path: Path) -> None:
    def stop() -> None:
        with TableWriter(store, f"{DIRECTORY}/a.parquet", TOP_K, {}) as writer:
            writer.write(top_k(2))
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop()
    assert list((tmp_path / DIRECTORY).iterdir()) == []


def test_a_table_without_files_points_to_its_stage(store: Store) -> None:
    (Path(store.url) / DIRECTORY).mkdir(parents=True)
    (Path(store.url) / DIRECTORY / ".a.parquet.0123.partial").write_bytes(b"half a file")
    for read in (read_table, table_metadata, lambda *where: list(iter_batches(*where))):
        with pytest.raises(MissingStageError, match=r"tables/top_k.*run the stage"):
            read(store, DIRECTORY)


def test_an_unknown_column_is_named(store: Store) -> None:
    write_table(store, f"{DIRECTORY}/a.parquet", top_k(2), TOP_K, {})
    with pytest.raises(DataError, match=r"column.* rang in .*a\.parquet"):
        read_table(store, DIRECTORY, ["rang"])


@pytest.mark.parametrize("damage", ["truncate", "flip"])
def test_damage_is_told_by_file(store: Store, tmp_path: Path, damage: str) -> None:
    rows = pa.table({"test_index": [0, 1], "train_start": [0, 0], "influence": [[0.25, 0.5], [1.0, -2.0]]})
    write_table(store, "s/a.parquet", rows, SCORES, {})
    path = tmp_path / "s/a.parquet"
    data = bytearray(path.read_bytes())
    scores = pq.read_metadata(path).row_group(0).column(2)
    data[scores.data_page_offset + scores.total_compressed_size - 1] ^= 1  # a bit of the last float: no decoder notices
    path.write_bytes(data[:-100] if damage == "truncate" else data)
    with pytest.raises(StorageError, match=r"a\.parquet.*repeat the stage"):
        read_table(store, "s")
    with pytest.raises(StorageError, match=r"a\.parquet.*repeat the stage"):
        list(iter_batches(store, "s"))


def test_a_flipped_bit_in_any_page_is_seen_by_whoever_reads_checksums(store: Store, tmp_path: Path) -> None:
    """Dictionaries have pages too. Headers and footers carry no checksum: only the proof's hash covers these."""
    write_table(store, f"{DIRECTORY}/part-00000.parquet", top_k(1000), TOP_K, {})
    path = tmp_path / DIRECTORY / "part-00000.parquet"
    whole = path.read_bytes()
    column = pq.read_metadata(path).row_group(0).column(0)
    assert column.has_dictionary_page
    group = pq.read_metadata(path).row_group(0)
    last_bytes = [
        start + group.column(number).total_compressed_size - 1
        for number in range(group.num_columns)
        for start in [group.column(number).dictionary_page_offset or group.column(number).data_page_offset]
    ]
    # The last byte of the dictionary lies before the data pages, the last byte of a column in a data page.
    for place in (column.data_page_offset - 1, *last_bytes):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(OSError, match="checksum"):
            pq.ParquetFile(path, page_checksum_verification=True).read()
        with pytest.raises(StorageError, match=r"whole Parquet file at .*checksum.*delete it and repeat"):
            read_table(store, DIRECTORY)


def test_a_storage_that_refuses_is_no_damage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An expired token, say: nothing is to be deleted or copied again for it."""

    class Refusing(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise PermissionError("the provided token has expired")

    write_table(store, f"{DIRECTORY}/part-00000.parquet", top_k(10), TOP_K, {})
    whole = store.read_bytes(f"{DIRECTORY}/part-00000.parquet")
    monkeypatch.setattr(Store, "open", lambda *_: Refusing(whole))
    with pytest.raises(StorageError, match=r"expected to read .*, found .*has expired; check credentials"):
        read_table(store, DIRECTORY)
