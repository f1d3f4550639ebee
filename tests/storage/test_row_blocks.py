"""Files of blocks: what is written comes back, and every changed byte is seen when its block is read."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from relatif.pipeline.storage.row_blocks import INDEX, BlockWriter, open_blocks
from relatif.pipeline.storage.store import Store, open_store
from relatif.schemas.errors import StorageError
from relatif.schemas.manifest import FileReceipt

PATH = "gradients/part.bin"
ROWS = (3, 4, 1)


def tensors(rows: int, seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "narrow": torch.randn(rows, 5, generator=generator).bfloat16(),
        "wide": torch.randn(rows, 2, 3, generator=generator, dtype=torch.float64),
        "bytes": torch.randint(0, 255, (rows, 7), generator=generator, dtype=torch.uint8),
        "truth": torch.randint(0, 2, (rows, 3), generator=generator) > 0,
        "numbers": torch.arange(rows),
    }


def written(store: Store) -> tuple[FileReceipt, ...]:
    first = 0
    with BlockWriter(store, PATH, {"origin": "here"}) as writer:
        for seed, rows in enumerate(ROWS):
            writer.write(first, tensors(rows, seed))
            first += rows
    return writer.receipts


@pytest.mark.parametrize("url", ["{}", "memory://row_blocks{}"])
def test_what_was_written_is_read_block_by_block(tmp_path: Path, url: str) -> None:
    store = open_store(url.format(tmp_path))
    receipts = written(store)
    assert [receipt.path for receipt in receipts] == [PATH, PATH + INDEX]
    file = open_blocks(store, receipts, PATH)
    assert dict(file.index.facts) == {"origin": "here"}
    assert [(block.first, block.rows) for block in file.index.blocks] == [(0, 3), (3, 4), (7, 1)]
    for _ in range(2):
        for number, rows in enumerate(ROWS):
            found = file.read(number)
            for name, values in tensors(rows, number).items():
                assert found[name].dtype == values.dtype
                assert torch.equal(found[name], values)


def test_every_changed_byte_is_seen_in_its_block_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    receipts = written(store)
    blocks = open_blocks(store, receipts, PATH).index.blocks
    data = (tmp_path / PATH).read_bytes()
    for place in range(0, len(data), 37):
        (tmp_path / PATH).write_bytes(data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :])
        file = open_blocks(store, receipts, PATH)
        for number, block in enumerate(blocks):
            if block.offset <= place < block.offset + block.bytes:
                message = f"expected rows {block.first} to {block.first + block.rows - 1} as they were written in "
                with pytest.raises(StorageError, match=message):
                    file.read(number)
            else:
                file.read(number)


def test_a_cut_file_another_index_and_none_are_refused(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    receipts = written(store)
    file, index = tmp_path / PATH, tmp_path / (PATH + INDEX)
    whole, text = file.read_bytes(), index.read_bytes()
    file.write_bytes(whole[:-1])
    with pytest.raises(StorageError, match=rf"part\.bin with {len(whole)} bytes, found {len(whole) - 1}"):
        open_blocks(store, receipts, PATH)
    file.write_bytes(whole)
    index.write_bytes(text.replace(b"here", b"hers"))
    with pytest.raises(StorageError, match="has other contents than were written"):
        open_blocks(store, receipts, PATH)
    index.unlink()
    with pytest.raises(StorageError, match="is missing"):
        open_blocks(store, receipts, PATH)
    with pytest.raises(StorageError, match=r"beside .*, found none that is proven"):
        open_blocks(store, receipts[:1], PATH)


def two_kinds(store: Store) -> None:
    with BlockWriter(store, PATH, {}) as writer:
        writer.write(0, tensors(3, 0))
        writer.write(3, {"narrow": torch.zeros(2, 5)})


def test_what_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="give every block the same ones"):
        two_kinds(open_store(tmp_path))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
